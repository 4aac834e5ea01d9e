"""What all pictures share: their fonts."""

from matplotlib.figure import Figure
from PIL import Image

from support.pictures.style import save


def test_letters_that_no_font_has_are_drawn_all_the_same(tmp_path, capfd):
    figure = Figure(figsize=(1, 1))
    figure.text(0.5, 0.5, "a\U0010fffdb 汉")
    save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        image.load()
    assert capfd.readouterr() == ("", "")
