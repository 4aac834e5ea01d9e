"""What all pictures share: matplotlib's default settings, colours, fonts, and how they are saved."""

import logging
import warnings
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from support.files import replacing

WIDTH = 8.75  # inches: on a web page 840 pixels, 96 to the inch, so that 9 points stay 9; in the file 1,400
DPI = 160
# the first comes with matplotlib; the others, where the system has them, have letters that the first lacks
FONTS = ["DejaVu Sans", "Noto Sans CJK JP", "Microsoft YaHei", "Malgun Gothic", "Hiragino Sans GB", "Arial Unicode MS"]
# a decorator: draws with matplotlib's default settings, whatever the user's are, and takes `$` literally
default_style = style.context(["default", {"text.parse_math": False, "font.size": 9, "font.family": FONTS}])
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a font that is missing is no news to a user
TEXT_GREY, GREY, GRID_GREY = "#555555", "#777777", "#DDDDDD"

# Okabe and Ito's colours, which the colour-blind can tell apart. The comparison has the same order.
COLOURS = {
    "CNN": "#000000",
    "Self-Attention": "#0072B2",
    "Multi-Head Attention": "#56B4E9",
    "SE-Attention": "#D55E00",
    "ECA-Attention": "#E69F00",
    "CBAM-Attention": "#009E73",
    "STN-Attention": "#CC79A7",
}
OTHER_COLOUR = "#8C564B"  # of scripts that are not in the list


@default_style
def save(figure: Figure, path: Path) -> None:
    """Writes a PNG; letters that no font has are drawn as boxes."""
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(temporary, format="png")


def shorten(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"
