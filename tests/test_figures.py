"""What all pictures share: their fonts, and PNGs that say what they are of."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from support.figures import families_for, read_metadata, save, say_that_letters_are_missing

NOWHERE = "\U0010fffd"  # a letter that no font has


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


def test_letters_that_no_font_has_are_drawn_all_the_same(tmp_path, capsys):
    families_for.cache_clear()
    figure = Figure(figsize=(1, 1))
    figure.text(0.5, 0.5, f"a{NOWHERE}b")
    families_for.cache_clear()
    say_that_letters_are_missing.cache_clear()
    save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        image.load()
    assert capsys.readouterr().out.count("No font of this machine") == 1


def test_letters_that_no_font_has_are_told_of_once(capsys):
    families_for.cache_clear()
    say_that_letters_are_missing.cache_clear()
    for text in (f"a{NOWHERE}", f"ab{NOWHERE}", f"abc{NOWHERE}"):  # as in a run's three pictures
        families_for(frozenset(map(ord, text)))
    assert capsys.readouterr().out.count("No font of this machine") == 1
