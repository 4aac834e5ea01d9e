"""What all pictures share: matplotlib's own settings, colours, fonts, and PNGs that are whole."""

import logging
import warnings
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path

from matplotlib import font_manager, rc_context, style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from PIL import Image

from support.files import replacing

WIDTH = 8.75  # inches: 840 pixels at 96 to the inch, as wide as a web page's column; so 9 points stay 9
DPI = 160
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a font without bold is no news to a user
TEXT_GREY, GREY, GRID_GREY = "#555555", "#777777", "#DDDDDD"

# Colours by Okabe and Ito, which the colour-blind can tell apart.
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


def default_style(draw: Callable) -> Callable:
    """A decorator: draws with matplotlib's own settings, whatever the user's are, and takes `$` as it stands."""

    @wraps(draw)
    def drawn(*arguments, **options):
        with style.context("default"), rc_context({"text.parse_math": False, "font.size": 9}):
            return draw(*arguments, **options)

    return drawn


@default_style
def save(figure: Figure, path: Path, **metadata: str) -> None:
    """Writes a PNG with the metadata as its text, in fonts that have its letters as far as the machine does."""
    set_fonts(figure)
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        FigureCanvasAgg(figure).print_png(temporary, metadata=metadata)


def shorten(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def read_metadata(path: Path) -> dict[str, str]:
    """What `save` was told; nothing where the file is missing or of another kind."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures, which are not ours
            image = Image.open(path)
        with image:
            return {key: value for key, value in image.info.items() if isinstance(value, str)}
    except Exception:  # Pillow refuses files in many ways
        return {}


@lru_cache
def letters(font: str) -> frozenset[int]:
    """The code points that a font file has."""
    try:
        return frozenset(FT2Font(font).get_charmap())
    except Exception:  # a font that matplotlib cannot read
        return frozenset()


@lru_cache
def families_for(needed: frozenset[int]) -> tuple[str, ...]:
    """Font families that together have these code points, as far as the machine's fonts allow."""
    families = ["DejaVu Sans"]  # which comes with matplotlib
    missing = needed - letters(font_manager.findfont("DejaVu Sans"))
    for font in font_manager.fontManager.ttflist if missing else ():
        # a font of last resort has every letter, as a box
        if not font.name.startswith("Last Resort") and missing & letters(font.fname):
            families.append(font.name)
            missing -= letters(font.fname)
    if missing:
        say_that_letters_are_missing()
    return tuple(families)


@lru_cache  # so that a run says it once, not with every picture
def say_that_letters_are_missing() -> None:
    print("No font of this machine has all letters of the names in the pictures: some are drawn as boxes")


def set_fonts(figure: Figure) -> None:
    texts = figure.findobj(Text)
    families = families_for(frozenset(map(ord, "".join(text.get_text() for text in texts))) - {ord("\n")})
    for text in texts if len(families) > 1 else ():
        text.set_fontfamily(families)
