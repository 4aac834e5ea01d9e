"""The user's own pictures: formats, layouts, and folders that are no dataset."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import make_tree, run
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from common import load_data
from support.data.image_tree import read_picture
from support.errors import UserError

linux = pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such names")
posix = pytest.mark.skipif(os.name == "nt", reason="links and permissions are different on Windows")


def colour(picture: Path, shade: int) -> None:
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade,) * 3).save(picture)


A, B, WHITE = (10, 20, 30), (200, 100, 50), (255, 255, 255)


def halves(top: tuple, bottom: tuple, mode: str = "RGB", size: int = 64) -> Image.Image:
    image = Image.new(mode, (size, size), bottom)
    image.paste(top, (0, 0, size, size // 2))
    return image


def grey16(kind: str) -> Image.Image:
    return Image.fromarray(np.repeat([[77 * 256], [200 * 256]], 32, axis=0).repeat(64, axis=1).astype(kind))


def orientation(value: int) -> dict:
    exif = Image.Exif()
    exif[0x0112] = value
    return {"exif": exif}


EXIF_TEXT = PngInfo()
EXIF_TEXT.add_text("Raw profile type exif", "\nexif\n       4\nnot hexadecimal\n")

PICTURES = {  # what is saved, how, and the colours that are read above and below
    "a pixel.png": (Image.new("RGB", (1, 1), A), {}, A, A),
    "wide.webp": (Image.new("RGB", (900, 30), A), {"lossless": True}, A, A),
    "large.jpg": (halves(A, B, size=2000), {"quality": 95}, A, B),
    "cmyk.jpg": (halves(A, B).convert("CMYK"), {"quality": 95}, A, B),
    "grey.bmp": (halves(77, 200, "L"), {}, (77,) * 3, (200,) * 3),
    "black and white.png": (halves(0, 1, "1"), {}, (0,) * 3, WHITE),
    "palette.gif": (halves(A, B).quantize(), {}, A, B),
    "16 bits.png": (grey16("<u2"), {}, (77,) * 3, (200,) * 3),
    "16 bits.tif": (grey16("<u2"), {}, (77,) * 3, (200,) * 3),
    "16 bits, big endian.tif": (grey16(">u2"), {}, (77,) * 3, (200,) * 3),
    "alpha.PNG": (halves((*A, 255), (*B, 0), "RGBA"), {}, A, WHITE),
    "grey alpha.png": (halves((77, 255), (0, 0), "LA"), {}, (77,) * 3, WHITE),
    "transparent colour.png": (halves(A, B), {"transparency": B}, A, WHITE),
    "upside down.jpg": (halves(A, B), {**orientation(3), "quality": 95}, B, A),
    "alpha, upside down.png": (halves((*A, 0), (*B, 255), "RGBA"), orientation(3), B, WHITE),
    "16 bits, upside down.png": (grey16("<u2"), orientation(3), (200,) * 3, (77,) * 3),
    "broken EXIF.png": (halves(A, B), {"exif": b"\0\x08 no EXIF"}, A, B),
    "EXIF as broken text.png": (halves(A, B), {"pnginfo": EXIF_TEXT}, A, B),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_read_as_it_looks(name, tmp_path):
    image, options, top, bottom = PICTURES[name]
    image.save(tmp_path / name, **options)
    pixels = read_picture(tmp_path / name)
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
    for half, expected in ((pixels[:15], top), (pixels[17:], bottom)):
        assert np.abs(half - np.array(expected)).max() <= (4 if name.endswith(".jpg") else 0)


def test_classes_and_pictures_are_in_the_order_of_their_names(tmp_path, capfd):
    pictures = ["a-b/1.png", "a/1.png", "a/deep/er/1.png", "a1.png"]  # as text; as paths, a is before a-b
    for i, picture in enumerate(reversed(pictures)):
        colour(tmp_path / "ünï côde" / "train" / "Zoo" / picture, 3 - i)
    for split, name, shade in (("train", "big cat", 7), ("train", "ant", 8), ("train", "Æ", 9), ("test", "big cat", 5)):
        colour(tmp_path / "ünï côde" / split / name / "1.png", shade)
    data = load_data(str(tmp_path / "ünï côde"))
    assert data.name == "ünï côde" and data.classes == ["Zoo", "ant", "big cat", "Æ"]
    assert data.train_images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 8, 7, 9]
    assert data.train_labels.tolist() == [0, 0, 0, 0, 1, 2, 3] and data.test_labels.tolist() == [2]
    assert data.test_images[0].unique().tolist() == [5]
    assert capfd.readouterr() == ("", "")


@linux
def test_a_class_has_one_name_in_whatever_form_it_is_written(tmp_path):
    for split, *names in (("train", "ant", "caf\u00e9"), ("test", "ant", "cafe\u0301")):
        for label, name in enumerate(names):
            colour(tmp_path / split / name / "1.png", label)
    colour(tmp_path / "train" / os.fsdecode(b"d\xe9j\xe0 vu") / "1.png", 2)  # no UTF-8
    data = load_data(str(tmp_path))
    assert data.classes == ["ant", "caf\u00e9", "d\N{REPLACEMENT CHARACTER}j\N{REPLACEMENT CHARACTER} vu"]
    assert data.test_labels.tolist() == data.test_images[:, 0, 0, 0].tolist() == [0, 1]


def test_what_is_not_read_is_said(tmp_path, capsys):
    folder = make_tree(tmp_path / "tree", train=1, test=1)
    for name in ("a.heic", "b.HEIC", "sub/c.heic", "d.mp4", "e.mp4", "IMG_1", "Thumbs.db", ".DS_Store", "._1.png"):
        (folder / "train" / "cow" / "sub").mkdir(exist_ok=True)
        (folder / "train" / "cow" / name).touch()
    (folder / "train" / "cow" / "album.png").mkdir()
    for hidden in ("train/.cache", "train/__MACOSX", "test/cow/@eaDir", "train/bee/.git"):
        (folder / hidden).mkdir()
        (folder / hidden / "1.png").touch()
    assert load_data(str(folder)).train_labels.tolist() == [0, 1, 2]
    said = "not read: 3 .heic, 2 .mp4, 1 without an ending (convert pictures such as HEIC to JPEG)\n"
    assert capsys.readouterr().out == said


@posix
def test_links_are_followed_but_not_in_circles(tmp_path, capsys):
    folder = make_tree(tmp_path / "tree", train=2, test=1)
    (folder / "train" / "cow" / "circle").symlink_to(folder / "train")
    (folder / "train" / "cow" / "linked.png").symlink_to(folder / "train" / "bee" / "0000.png")
    (folder / "train" / "dog").symlink_to(folder / "train" / "ant")
    assert load_data(str(folder)).train_labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert "not read: 1 linked folder(s) (" in capsys.readouterr().out


def truncate(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:500])


BAD_TREES = {  # what is done to a tree, and what the refusal says
    "a text": (lambda f: (f / "train/bee/x.png").write_text("hello"), "cannot read the picture {}/train/bee/x.png ("),
    "an empty file": (lambda f: (f / "test/cow/x.jpg").touch(), "cannot read the picture {}/test/cow/x.jpg ("),
    "half a picture": (lambda f: truncate(f / "test/bee/x.png"), "cannot read the picture {}/test/bee/x.png ("),
    "floats": (lambda f: Image.new("F", (9, 9)).save(f / "test/cow/x.tif"), "x.tif (its pixels are of the kind 'F'"),
    "integers": (lambda f: Image.new("I", (9, 9)).save(f / "test/cow/x.tif"), "x.tif (its pixels are of the kind 'I'"),
    "an empty class": (lambda f: (f / "train/dog").mkdir(), "no pictures in {}/train/dog"),
    "an unknown class": (lambda f: (f / "test/dog").mkdir(), "test has the class 'dog', which train lacks"),
    "no test": (lambda f: shutil.rmtree(f / "test"), "the folder test is missing"),
    "no train": (lambda f: shutil.rmtree(f / "train"), "the folder train is missing"),
    "no test pictures": (lambda f: [p.unlink() for p in f.glob("test/*/*")], "no pictures in {}/test"),
    "one class": (lambda f: [shutil.rmtree(f / "train" / c) for c in ("ant", "bee")], "at least two classes"),
    "no classes": (lambda f: [shutil.rmtree(p) for p in f.glob("train/*")], "at least two classes"),
}


@pytest.mark.parametrize("wrong", BAD_TREES)
def test_bad_trees(wrong, tmp_path):
    folder = make_tree(tmp_path / "my tree", train=2, test=1)
    spoil, says = BAD_TREES[wrong]
    spoil(folder)
    with pytest.raises(UserError) as refused:
        load_data(str(folder))
    assert refused.value.status == 2 and says.format(folder).replace("/", os.sep) in str(refused.value)


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(tmp_path):
    folder = make_tree(tmp_path / "tree", train=2, test=1)
    (folder / "train" / "cow" / "private").mkdir(mode=0)
    with pytest.raises(UserError, match=r"cannot use .*private"):
        load_data(str(folder))


PLACES = {  # what a folder has in it, and whether CIFAR-10 may be downloaded into it
    "nothing": ([], True),
    "hidden things": ([".cache/", ".DS_Store", "Thumbs.db"], True),
    "what a download that was killed left": (["cifar-10.lock", "cifar-10-python.tar.gz.01ef.partial"], True),
    "the archive, half, among other things": (["notes.txt", "cifar-10-python.tar.gz"], True),
    "classes": (["ant/", "bee/"], False),
    "capital letters": (["Train/", "Test/"], False),
    "pictures": (["ant.png", "bee.png", "cifar-10.lock"], False),
    "the files of CIFAR-10": (["data_batch_1", "batches.meta"], False),
}


@pytest.mark.parametrize("place", PLACES)
def test_only_an_empty_folder_is_a_place_for_a_download(place, tmp_path, monkeypatch):
    from support.data import download

    monkeypatch.setattr(download, "MIRRORS", [])
    names, may = PLACES[place]
    for name in names:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    if (tmp_path / "train").exists():
        pytest.skip("this file system takes Train for train")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as refused:
        load_data(str(tmp_path))
    if may:
        assert str(refused.value).startswith("could not download CIFAR-10")
    else:
        assert refused.value.status == 2 and "give the folder that holds those" in str(refused.value)
        assert sorted(tmp_path.iterdir()) == before


def test_a_refusal_is_one_line_on_the_terminal(tree, tmp_path):
    for source, says in ((tree / "train", "has ant, bee, cow, but neither"), ("nowhere", "folder not found")):
        result = run("CNN", "--data", source, cwd=tmp_path)
        assert (result.status, result.out) == (2, "")
        assert result.err.count("\n") == 1 and f"--data {source}: {says}" in result.err
