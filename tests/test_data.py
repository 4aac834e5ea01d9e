"""What `--data` may name: CIFAR-10 or an image tree, intact or not, and images the program draws."""

import gzip
import os
import pickle
import shutil
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ATTENTION, Process, expect, make_tree, run
from PIL import Image

from common import load_data
from support.errors import UserError
from support.shapes import draw_shapes

FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]


# ---- CIFAR-10 ------------------------------------------------------------------------------------------


@pytest.fixture
def cifar(archive, monkeypatch):
    """The archive's path, with this process's reader made to expect it."""
    from torchvision.datasets import CIFAR10

    from support import download

    for name in ("tgz_md5", "train_list", "test_list", "meta"):
        monkeypatch.setattr(CIFAR10, name, getattr(CIFAR10, name))
    for name in ("SHA256", "MIRRORS", "PATIENCE"):
        monkeypatch.setattr(download, name, getattr(download, name))
    path, sums = archive
    expect(sums)
    return path


def test_reads_cifar10_from_an_archive_put_there_by_hand(cifar, tmp_path):
    shutil.copy(cifar, tmp_path)
    data = load_data(str(tmp_path))
    assert data.name == "CIFAR-10" and data.classes == [f"class {i}" for i in range(10)]
    assert data.train_images.shape == (50, 3, 32, 32) and data.test_images.shape == (10, 3, 32, 32)
    assert data.train_images.is_contiguous(memory_format=torch.channels_last)  # or every step would reorder
    assert data.train_images.dtype == torch.uint8 and data.test_labels.dtype == torch.int64
    assert data.train_labels.tolist() == [*range(10)] * 5
    with tarfile.open(cifar) as archive:  # against the file's own layout: planes of 1,024 red, green, blue
        batch = pickle.load(archive.extractfile("cifar-10-batches-py/data_batch_2"))
    assert data.train_images[10:20].numpy().reshape(10, 3072).tolist() == batch["data"].tolist()


def test_reads_extracted_cifar10_from_a_folder_it_cannot_write(cifar, tmp_path):
    with tarfile.open(cifar) as archive:
        archive.extractall(tmp_path)
    tmp_path.chmod(0o500)
    assert len(load_data(str(tmp_path)).train_labels) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-py"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damaged_cifar10_is_extracted_again(file, damage, cifar, tmp_path):
    shutil.copy(cifar, tmp_path)
    load_data(str(tmp_path))
    path = tmp_path / "cifar-10-batches-py" / file
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
    assert len(load_data(str(tmp_path)).train_labels) == 50
    assert path.read_bytes() == whole


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", FILES)
def test_a_hostile_pickle_is_never_opened(file, cifar, tmp_path):
    with tarfile.open(cifar) as archive:
        archive.extractall(tmp_path)
    proof = tmp_path / "opened"
    content = pickle.dumps(Bomb(proof))
    (tmp_path / "cifar-10-batches-py" / file).write_bytes(content)
    with pytest.raises(UserError, match="no source delivered"):
        load_data(str(tmp_path))
    assert not proof.exists()
    pickle.loads(content)  # it would have been
    assert proof.exists()


def test_a_hostile_archive_is_not_even_unpacked(cifar, tmp_path):
    with tarfile.open(tmp_path / cifar.name, "w:gz") as archive:
        (tmp_path / "payload").write_text("payload")
        archive.add(tmp_path / "payload", "cifar-10-batches-py/data_batch_1")
    with pytest.raises(UserError, match="no source delivered"):
        load_data(str(tmp_path))
    assert not (tmp_path / "cifar-10-batches-py").exists()


def test_a_truncated_archive_is_refused_and_kept(cifar, tmp_path):
    half = cifar.read_bytes()[:1000]
    (tmp_path / cifar.name).write_bytes(half)
    with pytest.raises(UserError, match=r"Put cifar-10-python.tar.gz into"):
        load_data(str(tmp_path))
    assert (tmp_path / cifar.name).read_bytes() == half


# ---- image trees ---------------------------------------------------------------------------------------


def test_reads_an_image_tree(tmp_path):
    folder = make_tree(tmp_path / "ünï côde tree", classes=("big cat", "Æther", "zebra"), train=3, test=2)
    data = load_data(str(folder))
    assert data.name == "ünï côde tree" and data.classes == ["big cat", "zebra", "Æther"]
    assert data.train_labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    with Image.open(folder / "test" / "zebra" / "0001.png") as image:
        assert data.test_images[3].permute(1, 2, 0).numpy().tolist() == np.asarray(image).tolist()


def test_odd_files_in_a_tree(tmp_path):
    """Sizes, modes and formats are brought to 32x32 RGB; what is no picture by its name is left alone."""
    folder = make_tree(tmp_path / "tree", train=1, test=1)
    cow = folder / "train" / "cow"
    Image.new("RGB", (1, 1), (10, 20, 30)).save(cow / "1x1.png")
    Image.new("RGB", (900, 30), (10, 20, 30)).save(cow / "wide.webp", lossless=True)
    Image.new("L", (40, 40), 77).save(cow / "grey.bmp")
    Image.fromarray(np.full((40, 40), 77 * 256, np.uint16)).save(cow / "grey16.png")
    Image.new("RGBA", (64, 64), (10, 20, 30, 255)).save(cow / "alpha.PNG")
    Image.new("P", (64, 64)).save(cow / "palette.gif")
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(cow / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    turned = np.zeros((32, 32, 3), np.uint8)
    turned[:16] = 255
    Image.fromarray(turned).save(cow / "turned.png", exif=exif)
    (cow / "notes.txt").write_text("no picture")
    (cow / ".hidden.png").write_text("no picture")
    (cow / "Thumbs.db").write_bytes(b"no picture")
    (folder / "train" / ".cache").mkdir()
    data = load_data(str(folder))
    assert len(data.train_labels) == 3 + 8
    images = data.train_images[data.train_labels == 2]
    names = sorted(path.name for path in cow.iterdir() if path.suffix.lower() in (".png", ".webp", ".bmp", ".gif"))
    image = dict(zip([name for name in names if not name.startswith(".")], images, strict=True))
    for name in ("1x1.png", "alpha.PNG"):
        assert image[name].flatten(1).unique(dim=1).flatten().tolist() == [10, 20, 30]
    assert (image["wide.webp"].flatten(1).float().mean(1) - torch.tensor([10.0, 20.0, 30.0])).abs().max() < 2
    assert image["grey.bmp"].unique().tolist() == image["grey16.png"].unique().tolist() == [77]
    assert image["clear.png"].unique().tolist() == [255]  # not the red that is hidden
    assert image["turned.png"][:, :16].max() == 0 and image["turned.png"][:, 16:].min() == 255


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_link_loops_end(tmp_path):
    folder = make_tree(tmp_path / "tree", train=2, test=1)
    (folder / "train" / "cow" / "loop").symlink_to(folder / "train")
    (folder / "train" / "cow" / "itself.png").symlink_to("itself.png")
    assert len(load_data(str(folder)).train_labels) == 6


def bomb(folder: Path) -> None:
    """A PNG that says it is 20,000 pixels wide and high."""
    path = folder / "train" / "bee" / "huge.png"
    Image.new("1", (20_000, 20_000)).save(path)


def truncated(folder: Path) -> None:
    path = folder / "test" / "bee" / "half.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:500])


BAD_TREES = {
    "a text file named .png": (lambda f: (f / "train" / "bee" / "x.png").write_text("hello"), "x.png"),
    "an empty file": (lambda f: (f / "test" / "cow" / "void.jpg").touch(), "void.jpg"),
    "a truncated picture": (truncated, "half.png"),
    "a decompression bomb": (bomb, "huge.png"),
    "an empty class": (lambda f: (f / "train" / "dog").mkdir(), "no pictures in"),
    "a test class that training lacks": (lambda f: (f / "test" / "dog").mkdir(), "'dog', which train lacks"),
    "no test folder": (lambda f: shutil.rmtree(f / "test"), "folder test is missing"),
    "no train folder": (lambda f: shutil.rmtree(f / "train"), "folder train is missing"),
    "no test images": (lambda f: [p.unlink() for p in f.glob("test/*/*")], "no pictures in"),
    "one class": (lambda f: [shutil.rmtree(f / "train" / c) for c in ("ant", "bee")], "at least two classes"),
    "no classes": (lambda f: [shutil.rmtree(p) for p in f.glob("train/*")], "at least two classes"),
}


@pytest.mark.parametrize("wrong", BAD_TREES)
def test_bad_trees(wrong, tmp_path):
    folder = make_tree(tmp_path / "my tree", train=2, test=1)
    spoil, says = BAD_TREES[wrong]
    spoil(folder)
    result = run("CNN", "--data", folder, "--epochs", 1, cwd=tmp_path)
    assert result.status == 2 and result.out == ""
    assert result.err.count("\n") == 1 and says in result.err
    assert not list((tmp_path / "plots").iterdir())


# ---- drawn images --------------------------------------------------------------------------------------


def test_shapes_are_the_same_every_time():
    first, second = draw_shapes(40, 20), draw_shapes(40, 20)
    assert first.train_images.equal(second.train_images) and first.test_images.equal(second.test_images)
    assert first.train_images.shape == (40, 3, 32, 32) and first.train_images.dtype == torch.uint8
    assert len(first.classes) == 10 and first.test_labels.bincount().tolist() == [2] * 10
    everything = torch.cat([first.train_images, first.test_images]).flatten(1)
    assert len(everything.unique(dim=0)) == 60  # none twice, so none of the test images is in training


# ---- download ------------------------------------------------------------------------------------------


def test_without_a_network_says_where_to_put_the_archive(archive, tmp_path):
    mirrors = [f"http://127.0.0.1:9/{i}/cifar-10-python.tar.gz" for i in range(4)]
    result = run("CNN", cwd=tmp_path, prepare=partial(expect, archive[1], mirrors))
    assert result.status == 1 and "Traceback" not in result.err
    for mirror in mirrors:
        assert f"{mirror}: [Errno" in result.err  # its reason
    assert str(tmp_path / "data") in result.err and "--data shapes" in result.err


FAULTS = ["refuse", "stall", "silent", "truncate", "lie", "nonsense", "wrong", "missing", "loop"]


@pytest.mark.parametrize("fault", FAULTS)
def test_download_goes_on_to_the_next_mirror(fault, archive, server, tmp_path):
    mirrors = [server.url(fault), server.url("redirect")]
    result = run("CNN", "--epochs", 1, cwd=tmp_path, prepare=partial(expect, archive[1], mirrors))
    assert (result.status, result.err) == (0, "")
    assert "CIFAR-10: 50 images to train" in result.out
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "cifar-10.lock",
    ]


def test_when_every_mirror_fails_nothing_is_left(archive, server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar-10-python.tar.gz.0123.partial").write_text("of a run that was killed")
    mirrors = [server.url(fault) for fault in FAULTS]
    result = run("CNN", cwd=tmp_path, prepare=partial(expect, archive[1], mirrors))
    assert result.status == 1 and "Traceback" not in result.err
    assert all(mirror in result.err for mirror in mirrors)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cifar-10.lock"]


def test_two_scripts_started_at_once_download_once(archive, server, tmp_path):
    prepare = partial(expect, archive[1], [server.url("slow")])
    both = [Process(script, "--epochs", 1, cwd=tmp_path, prepare=prepare) for script in ATTENTION[2:4]]
    assert [process.wait().status for process in both] == [0, 0]
    assert server.requests.count("/slow") == 1


def test_gzip_is_what_the_archive_is(archive):
    """The small archive is of the kind that the real one is, so the tests above go the real way."""
    assert gzip.decompress(archive[0].read_bytes())[257:262] == b"ustar"
