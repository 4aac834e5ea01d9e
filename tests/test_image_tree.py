"""The user's own pictures: formats, layouts, and folders that are no dataset."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import make_tree, posix
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from common import load_data
from support.data import download
from support.data.image_tree import read_picture
from support.errors import UserError


def save_grey(picture: Path, shade: int) -> None:
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade,) * 3).save(picture)


A, B, WHITE = (10, 20, 30), (200, 100, 50), (255, 255, 255)
GREY_A, GREY_B = (77,) * 3, (200,) * 3


def halves(top: object, bottom: object, mode: str = "RGB", size: int = 64) -> Image.Image:
    image = Image.new(mode, (size, size), bottom)
    image.paste(top, (0, 0, size, size // 2))
    return image


def grey16(kind: str) -> Image.Image:
    return Image.fromarray(np.repeat([[77 * 256], [200 * 256]], 32, axis=0).repeat(64, axis=1).astype(kind))


TURNED = Image.Exif()
TURNED[0x0112] = 3
BROKEN_EXIF = PngInfo()
BROKEN_EXIF.add_text("Raw profile type exif", "\nexif\n       4\nnot hexadecimal\n")

PICTURES = {  # what is saved, how, and the colours that are read above and below
    "a pixel.png": (Image.new("RGB", (1, 1), A), {}, A, A),
    "large.jpg": (halves(A, B, size=2000), {"quality": 95}, A, B),
    "cmyk.jpg": (halves(A, B).convert("CMYK"), {"quality": 95}, A, B),
    "palette.gif": (halves(A, B).quantize(), {}, A, B),
    "16 bits.png": (grey16("<u2"), {}, GREY_A, GREY_B),
    "16 bits, big endian.tif": (grey16(">u2"), {}, GREY_A, GREY_B),
    "alpha.PNG": (halves((*A, 255), (*B, 0), "RGBA"), {}, A, WHITE),
    "transparent colour.png": (halves(A, B), {"transparency": B}, A, WHITE),
    "upside down.jpg": (halves(A, B), {"exif": TURNED, "quality": 95}, B, A),
    "alpha, upside down.png": (halves((*A, 0), (*B, 255), "RGBA"), {"exif": TURNED}, B, WHITE),
    "broken EXIF.png": (halves(A, B), {"pnginfo": BROKEN_EXIF}, A, B),
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
    folder = tmp_path / "ünï côde"
    pictures = ["a-b/1.png", "a/1.png", "a/deep/er/1.png", "a1.png"]  # as text; as paths, a is before a-b
    for i, picture in enumerate(reversed(pictures)):
        save_grey(folder / "train" / "Zoo" / picture, 3 - i)
    for split, name, shade in (("train", "big cat", 7), ("train", "ant", 8), ("train", "Æ", 9), ("test", "big cat", 5)):
        save_grey(folder / split / name / "1.png", shade)
    data = load_data(str(folder))
    assert data.name == "ünï côde" and data.classes == ["Zoo", "ant", "big cat", "Æ"]
    assert data.train_images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 8, 7, 9]
    assert data.train_labels.tolist() == [0, 0, 0, 0, 1, 2, 3] and data.test_labels.tolist() == [2]
    assert data.test_images[0].unique().tolist() == [5]
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such names")
def test_a_class_has_one_name_in_whatever_form_it_is_written(tmp_path):
    for split, *names in (("train", "ant", "caf\u00e9"), ("test", "ant", "cafe\u0301")):
        for label, name in enumerate(names):
            save_grey(tmp_path / split / name / "1.png", label)
    data = load_data(str(tmp_path))
    assert data.classes == ["ant", "caf\u00e9"]
    assert data.test_labels.tolist() == data.test_images[:, 0, 0, 0].tolist() == [0, 1]


@posix
def test_what_is_not_read_is_said_and_links_are_followed_but_not_in_circles(tmp_path, capsys):
    folder = make_tree(tmp_path / "tree", train=1, test=1)
    (folder / "train" / "cow" / "sub").mkdir()
    for name in ("a.heic", "b.HEIC", "sub/c.heic", "d.mp4", "e.mp4", "IMG_1", "Thumbs.db", ".DS_Store", "._1.png"):
        (folder / "train" / "cow" / name).touch()
    (folder / "train" / "cow" / "album.png").mkdir()
    for hidden in ("train/.cache", "train/__MACOSX", "test/cow/@eaDir", "train/bee/.git"):
        (folder / hidden).mkdir()
        (folder / hidden / "1.png").touch()
    (folder / "train" / "cow" / "circle").symlink_to(folder / "train")
    (folder / "train" / "cow" / "linked.png").symlink_to(folder / "train" / "bee" / "0000.png")
    (folder / "train" / "dog").symlink_to(folder / "train" / "ant")
    assert load_data(str(folder)).train_labels.tolist() == [0, 1, 2, 2, 3]
    said = "Skipped: 3 .heic, 2 .mp4, 1 linked folder(s), 1 without an ending (convert pictures such as HEIC to JPEG)"
    assert capsys.readouterr().out.splitlines() == [said]


def truncate(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:500])


BAD_TREES = {  # what is done to a tree, and what the refusal says
    "a text": (lambda f: (f / "train/bee/x.png").write_text("hello"), "cannot read the picture {}/train/bee/x.png ("),
    "half a picture": (lambda f: truncate(f / "test/bee/x.png"), "cannot read the picture {}/test/bee/x.png ("),
    "floats": (lambda f: Image.new("F", (9, 9)).save(f / "test/cow/x.tif"), "x.tif (its pixels have the mode 'F'"),
    "an empty class": (lambda f: (f / "train/dog").mkdir(), "no pictures in {}/train/dog"),
    "an unknown class": (lambda f: (f / "test/dog").mkdir(), "test has the class 'dog', which train lacks"),
    "no test": (lambda f: shutil.rmtree(f / "test"), "the folder test is missing"),
    "one class": (lambda f: [shutil.rmtree(f / "train" / c) for c in ("ant", "bee")], "at least two classes"),
    "a folder that may not be read": (lambda f: (f / "train/cow/private").mkdir(mode=0), "cannot use {}/train/cow/pri"),
    "classes alone": (lambda f: (shutil.rmtree(f / "test"), (f / "train").rename(f / "x")), "has x, but neither train"),
}


@pytest.mark.parametrize("wrong", BAD_TREES)
def test_bad_trees(wrong, tmp_path, monkeypatch):
    if "may not be read" in wrong and (os.name == "nt" or os.geteuid() == 0):
        pytest.skip("root may read everything")
    monkeypatch.setattr(download, "MIRRORS", [])  # so that a folder which is not refused fails
    folder = make_tree(tmp_path / "my tree", train=2, test=1)
    spoil, says = BAD_TREES[wrong]
    spoil(folder)
    with pytest.raises(UserError) as refused:
        load_data(str(folder))
    assert refused.value.status == 2 and says.format(folder).replace("/", os.sep) in str(refused.value)
