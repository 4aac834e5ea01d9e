"""What all pictures share: their fonts, and PNGs that say what they are of."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from support.figures import read_metadata, save


def test_a_picture_says_what_it_is_of(tmp_path):
    save(Figure(figsize=(1, 1)), tmp_path / "a.png", Source="crème (0123abcd)", Control="")
    saved = read_metadata(tmp_path / "a.png")
    assert (saved["Source"], saved["Control"]) == ("crème (0123abcd)", "")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_says_nothing(content, tmp_path):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert read_metadata(tmp_path / "a.png") == {}


def test_letters_that_no_font_has_are_drawn_all_the_same(tmp_path, capfd):
    figure = Figure(figsize=(1, 1))
    figure.text(0.5, 0.5, "a\U0010fffdb 汉")
    save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        image.load()
    assert capfd.readouterr() == ("", "")
