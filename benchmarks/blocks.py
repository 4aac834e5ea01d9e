"""Draws what five blocks attend to, side by side: `plots/gallery/blocks.png`.

    python benchmarks/blocks.py --data "JPEG copy of CIFAR-10" --runs trained/seed0 --shapes stn

The folder `--runs` has the checkpoints of the scripts, trained on the images of `--data`; the folder `--shapes` has
`STN-Attention-shapes.pt`, trained on the drawn shapes, since on the JPEG copy STN keeps the whole image.
"""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke
from networks import ROOT
from torch import Tensor
from torch.nn import functional as F
from trained import attended, load_run, nth_of_class, parse

from common import load_data
from support.data.dataset import Data, normalize
from support.errors import plain_errors
from support.pictures.attention import corners
from support.pictures.style import DPI, WIDTH, default_style, save

PHOTOS = [("horse", 13), ("automobile", 16), ("bird", 3)]  # a class, and how many of its test images come before
SHAPES = [("star", 0), ("arrow", 0), ("circle", 0)]
GALLERY = ROOT / "plots" / "gallery"
QUERY = 8 * 4 + 4  # the position in the 8x8 map whose attention is drawn
BORDER = withStroke(linewidth=3.4, foreground="black")
OUTLINE = {"fill": False, "edgecolor": "white", "linewidth": 1.6, "path_effects": [BORDER]}


def over(image: Tensor, amounts: Tensor) -> np.ndarray:
    """A map (h, w) from 0 (white) to 1 (blue) over its image (3, 32, 32), which shows through in grey: (32, 32, 3)."""
    side = 32 // len(amounts)
    amounts = amounts.clamp(0, 1).repeat_interleave(side, 0).repeat_interleave(side, 1)
    grey = 0.6 + 0.4 * image.float().mean(0) / 255
    return colormaps["Blues"](amounts.numpy())[:, :, :3] * grey[:, :, None].numpy()


def gathered(image: Tensor, weights: Tensor) -> np.ndarray:
    """The maps of the query's weights (heads, 64, 64): of one head, or of four in a square.

    The scale is logarithmic, from an eighth of their mean to eight times as much.
    """
    amounts = (64 * weights[:, QUERY]).log2().div(6).add(0.5).unflatten(1, (8, 8))
    maps = [over(image, amount) for amount in amounts]
    if len(maps) == 1:
        return maps[0]
    maps = [np.pad(pixels, ((1, 1), (1, 1), (0, 0)), constant_values=1) for pixels in maps]
    return np.vstack([np.hstack(maps[:2]), np.hstack(maps[2:])])


@default_style
def draw(runs: Path, of_shapes: Path, data: Data, path: Path) -> None:
    def first_block(script: str, kind: str, images: Tensor) -> Tensor:  # the one on the 8x8 map
        return attended(load_run(runs / f"{script}.pt", script, data)[0], kind, images)[0]

    chosen, shapes = nth_of_class(data, PHOTOS), load_data("shapes")
    photos, drawn = data.test_images[chosen], shapes.test_images[nth_of_class(shapes, SHAPES)]
    alone, heads = (first_block(f"{name}Attention", "weights", photos) for name in ("Self-", "Multi-Head "))
    gates = [first_block(f"{name}-Attention", "channels", data.test_images) for name in ("SE", "ECA")]
    opened = [values[chosen] - values.mean(0) for values in gates]  # (3, 64), over what is usual
    [theta] = attended(load_run(of_shapes / "STN-Attention-shapes.pt", "STN-Attention", shapes)[0], "theta", drawn)
    grid = F.affine_grid(theta, drawn.shape, align_corners=False)
    seen = F.grid_sample(normalize(drawn), grid, align_corners=False).add(1).div(2)

    figure = Figure(figsize=(WIDTH, 3.45), dpi=DPI)
    panels = figure.subplots(3, 8, width_ratios=[1, 1, 1, 1, 1, 0.12, 1, 1])
    figure.subplots_adjust(left=0.005, right=0.995, top=0.92, bottom=0.005, wspace=0.05, hspace=0.05)
    for row, (photo, alone_, heads_, *bars, _, shape, cut) in enumerate(panels):
        photo.imshow(photos[row].permute(1, 2, 0))
        alone_.imshow(gathered(photos[row], alone[row]))
        heads_.imshow(gathered(photos[row], heads[row]))
        shape.imshow(drawn[row].permute(1, 2, 0))
        cut.imshow(seen[row].permute(1, 2, 0))
        for axes, values in zip(bars, opened, strict=True):
            colours = ["#B84A00" if value > 0 else "#5B3FA8" for value in values[row]]
            axes.bar(range(64), values[row], color=colours, width=1)
            axes.set(ylim=values.abs().max().item() * np.array([-1, 1]), xlim=(-0.5, 63.5), box_aspect=1)
        for axes in (photo, alone_):
            axes.add_patch(Rectangle((15.5, 15.5), 4, 4, **OUTLINE))
        shape.add_patch(Polygon(corners(theta)[row] - 0.5, **OUTLINE))
    titles = ["photo", "Self-Attention", "Multi-Head", "SE", "ECA", "", "drawn shape", "STN"]
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, pad=4)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    for axes in panels[:, 5]:
        axes.axis("off")
    save(figure, path)


def main() -> None:
    options = parse(__doc__, out=GALLERY)
    with plain_errors(options):
        draw(options.runs, options.shapes, load_data(options.data), options.out / "blocks.png")


if __name__ == "__main__":
    main()
