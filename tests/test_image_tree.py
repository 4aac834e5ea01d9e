"""Image trees, whole and odd, and folders that are none."""

import os
import shutil
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import expect, make_tree, run
from PIL import Image

from common import load_data
from support.data import image_tree
from support.data.image_tree import read_picture
from support.errors import UserError


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


def test_a_transparent_picture_is_turned_before_it_is_laid_on_white(tmp_path):
    """Of a picture whose left half is hidden red, taken with the camera turned: white above, blue below."""
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, :16] = 255, 0, 0, 0
    pixels[:, 16:] = 0, 0, 255, 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = read_picture(tmp_path / "turned.png")
    assert (upright[:16] == 255).all() and (upright[16:] == [0, 0, 255]).all()


@pytest.mark.parametrize(
    ("file", "kind"), [("a.png", np.uint16), ("a.tif", np.uint16), ("big endian.tif", ">u2")], ids=str
)
def test_16_bit_greys_keep_their_brightness(file, kind, tmp_path):
    greys = np.arange(32 * 32).reshape(32, 32) * 64  # from black to white
    Image.fromarray(greys.astype(kind)).save(tmp_path / file)
    with Image.open(tmp_path / file) as image:
        assert image.mode.startswith("I")  # so the test is about such a picture
    assert (read_picture(tmp_path / file) == (greys // 256)[:, :, None]).all()


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_class_whose_name_is_not_utf_8_is_read(tmp_path):
    folder = make_tree(tmp_path / "tree", classes=("ant", os.fsdecode(b"caf\xe9")), train=2, test=1)
    data = load_data(str(folder))
    assert data.classes == ["ant", "caf\N{REPLACEMENT CHARACTER}"] and data.train_labels.tolist() == [0, 0, 1, 1]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_to_pictures_and_classes_are_followed_and_loops_end(tmp_path, capsys):
    folder = make_tree(tmp_path / "tree", train=2, test=1)
    (folder / "train" / "cow" / "loop").symlink_to(folder / "train")
    (folder / "train" / "cow" / "itself.png").symlink_to("itself.png")
    (folder / "train" / "cow" / "linked.png").symlink_to(folder / "train" / "bee" / "0000.png")
    (folder / "train" / "dog").symlink_to(folder / "train" / "ant")
    (folder / "train" / "eel").symlink_to("nowhere")
    assert load_data(str(folder)).train_labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert capsys.readouterr().out == "not read: 2 broken links, 1 linked folder within a class\n"


def bomb(folder: Path) -> None:
    """A PNG that says it is 20,000 pixels wide and high."""
    path = folder / "train" / "bee" / "huge.png"
    Image.new("1", (20_000, 20_000)).save(path)


def truncated(folder: Path) -> None:
    path = folder / "test" / "bee" / "half.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:500])


def tiff(folder: Path, kind: type) -> None:
    """A TIFF whose numbers say nothing about which of them is white."""
    Image.fromarray(np.full((32, 32), 70, kind)).save(folder / "train" / "bee" / "odd.tif")


BAD_TREES = {
    "a text file named .png": (lambda f: (f / "train" / "bee" / "x.png").write_text("hello"), "x.png"),
    "an empty file": (lambda f: (f / "test" / "cow" / "void.jpg").touch(), "void.jpg"),
    "a truncated picture": (truncated, "half.png"),
    "a TIFF of floats": (lambda f: tiff(f, np.float32), "odd.tif (its pixels are of the kind 'F': save it with 8 bits"),
    "a TIFF of 32-bit integers": (
        lambda f: tiff(f, np.int32),
        "odd.tif (its pixels are of the kind 'I': save it with 8 bits",
    ),
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


def case_matters(folder: Path) -> bool:
    (folder / "case").mkdir()
    return not (folder / "CASE").exists()


@pytest.mark.parametrize("layout", ["capital letters", "classes alone", "empty folders", "pictures alone"])
def test_a_folder_of_other_pictures_is_no_place_for_a_download(layout, archive, server, tmp_path):
    folder = make_tree(tmp_path / "mine", train=1, test=1)
    if layout == "capital letters":
        if not case_matters(tmp_path):
            pytest.skip("this file system takes Train for train")
        for name in ("train", "test"):
            (folder / name).rename(folder / name.capitalize())
    elif layout == "empty folders":
        shutil.rmtree(folder)
        for name in ("ant", "bee"):
            (folder / name).mkdir(parents=True)
    else:
        depth = "train/*" if layout == "classes alone" else "train/*/*"
        for path in list(folder.glob(depth)):
            path.rename(folder / f"{path.parent.name}-{path.name}")
        shutil.rmtree(folder / "train")
        shutil.rmtree(folder / "test")
    before = sorted(folder.rglob("*"))
    prepare = partial(expect, archive[1], [server.url("good")])
    result = run("CNN", "--data", folder, "--epochs", 1, cwd=tmp_path, prepare=prepare)
    assert result.status == 2 and result.out == "" and result.err.count("\n") == 1
    assert f"--data {folder}: has " in result.err and "train and test (in small letters)" in result.err
    assert server.requests == [] and sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("put_there", ["nothing", "a hidden folder", "a text"])
def test_a_folder_without_pictures_is_a_place_for_a_download(put_there, archive, server, tmp_path):
    folder = tmp_path / "mine"
    (folder / (".cache" if put_there == "a hidden folder" else "")).mkdir(parents=True)
    if put_there == "a text":
        (folder / "notes.txt").write_text("to be filled")
    prepare = partial(expect, archive[1], [server.url("good")])
    assert run("CNN", "--data", folder, "--epochs", 1, cwd=tmp_path, prepare=prepare).status == 0
    assert server.requests == ["/good"]


def heic(folder: Path) -> None:
    for path in folder.glob("train/cow/*"):
        path.rename(path.with_suffix(".HEIC"))


def loose(split: Path) -> None:
    """Moves pictures out of their classes' folders, which go."""
    for path in list(split.glob("*/*")):
        path.rename(split / f"{path.parent.name}{path.name}")
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


LEFT_OUT = {
    "photographs of a phone": (
        heic,
        "no pictures in {0}/train/cow; not read: 2 .heic (Pillow cannot read these",
    ),
    "train without classes": (lambda f: loose(f / "train"), "two classes; not read: 6 files in train itself"),
    "test without classes": (lambda f: loose(f / "test"), "no pictures in {0}/test; not read: 3 files in test itself"),
}


@pytest.mark.parametrize("wrong", LEFT_OUT)
def test_a_refusal_says_what_was_left_out(wrong, tmp_path):
    folder = make_tree(tmp_path / "tree", train=2, test=1)
    spoil, says = LEFT_OUT[wrong]
    spoil(folder)
    with pytest.raises(UserError) as refused:
        load_data(str(folder))
    assert refused.value.status == 2 and says.format(folder).replace("/", os.sep) in str(refused.value)


def test_what_is_not_read_is_counted(tmp_path, capsys):
    folder = make_tree(tmp_path / "tree", train=1, test=1)
    load_data(str(folder))
    assert capsys.readouterr().out == ""
    cow = folder / "train" / "cow"
    for name in (
        "a.heic",
        "b.HEIC",
        "c.mp4",
        "IMG_1",
        "1. a cow",
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "._0000.png",
    ):
        (cow / name).touch()
    (folder / "test" / "ant" / "собака.heic").touch()
    (folder / "train" / "labels.csv").touch()
    (folder / "train" / "__MACOSX").mkdir()
    (folder / "val" / "cow").mkdir(parents=True)
    (folder / "README.txt").touch()
    (cow / "album.jpg").mkdir()
    (cow / "2024" / "May").mkdir(parents=True)
    shutil.copy(folder / "train" / "bee" / "0000.png", cow / "2024" / "May" / "cow.PNG")
    data = load_data(str(folder))
    assert data.train_labels.tolist() == [0, 1, 2, 2]  # the folders in a class's folder are of that class
    assert data.train_images[3].equal(data.train_images[1]) != data.train_images[2].equal(data.train_images[1])
    assert capsys.readouterr().out == (
        "not read: 3 .heic, 1 .mp4 (Pillow cannot read these: convert pictures to JPEG), 1 empty folder, "
        "1 file in train itself, 2 files without an ending such as .jpg, 1 folder or picture beside train and test\n"
    )


def test_threads_read_what_one_would_in_the_same_order(tree, monkeypatch):
    alone = load_data(str(tree))
    monkeypatch.setattr(image_tree, "SMALL", 0)
    assert all(a.equal(b) for a, b in zip(alone.tensors, load_data(str(tree)).tensors, strict=True))


def test_of_two_unreadable_pictures_the_first_is_named(tree, monkeypatch):
    """Even if a thread fails at the second before another fails at the first."""
    failed = threading.Event()

    def fail(path: Path) -> None:
        if path.name == "0001.png":
            failed.set()
        elif not failed.wait(10):
            return np.zeros((32, 32, 3), np.uint8)
        raise ValueError("unreadable")

    for name, value in (("SMALL", 0), ("THREADS", 2), ("read_picture", fail)):
        monkeypatch.setattr(image_tree, name, value)
    with pytest.raises(UserError, match=r"ant.0000.png \(unreadable\)"):
        load_data(str(tree))


def test_no_more_than_some_pictures_are_in_flight(tree, monkeypatch):
    class Pool:
        def __init__(self, threads):
            self.asked = self.most = self.read = 0
            pools.append(self)

        def submit(self, function, path):
            self.asked += 1
            self.most = max(self.most, self.asked - self.read)
            return SimpleNamespace(result=lambda: self.answer(function, path))

        def answer(self, function, path):
            self.read += 1
            return function(path)

        def shutdown(self, **options):
            self.options = options

    pools = []
    for name, value in (("SMALL", 0), ("AHEAD", 7), ("ThreadPoolExecutor", Pool)):
        monkeypatch.setattr(image_tree, name, value)
    load_data(str(tree))
    assert [(pool.asked, pool.read, pool.most) for pool in pools] == [(60, 60, 7), (24, 24, 7)]
    assert all(pool.options == {"cancel_futures": True} for pool in pools)


@pytest.mark.parametrize("typed", ["cifar-10-batches-py", "cifar-10-batches-py/", ".", "renamed", "train"])
def test_the_folder_within_the_data_set_is_given(typed, tree, tmp_path, monkeypatch):
    inner = tmp_path / ("renamed" if typed == "renamed" else "cifar-10-batches-py")
    inner.mkdir()
    (inner / "data_batch_1").touch()
    monkeypatch.chdir(inner if typed == "." else tmp_path)
    source, above = (tree / "train", tree) if typed == "train" else (typed, tmp_path)
    with pytest.raises(UserError) as refused:
        load_data(str(source))
    said = str(refused.value)
    assert refused.value.status == 2 and said.endswith(f"give the folder above, {above.resolve()}")
    assert ("call this folder cifar-10-batches-py" in said) == (typed == "renamed")
