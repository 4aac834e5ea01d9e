"""Draws the six blocks in one picture, `plots/gallery/blocks.png`: what each does to the same photographs.

    python benchmarks/blocks.py --data "CIFAR-10 JPEG copy" --runs plots --shapes plots

The folder `--runs` has the checkpoints of the scripts, trained on the images of `--data`; the folder `--shapes` has
`STN-Attention-shapes.pt`, trained on the drawn shapes, since on CIFAR-10 STN's frame stays the whole image.
"""

import argparse
from pathlib import Path

import torch
from gallery import GALLERY
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from networks import build
from torch import Tensor, nn
from trained import load_trained

from common import load_data
from support.data.dataset import Data
from support.errors import plain_errors
from support.pictures import attention_numbers as numbers
from support.pictures.attention_layout import (
    INK,
    Panel,
    Scale,
    attention,
    heat,
    name_queries,
    outline,
    panel_rows,
    photograph,
)
from support.pictures.style import DPI, TEXT_GREY, WIDTH, default_style, save
from support.run.command_line import Parser, writable_folder

CLASSES = ["horse", "automobile", "ship"]
SHAPES = ["circle", "star", "arrow"]
CAPTIONS = """\
Self-Attention: position A gathers from all positions of the image, most from those that match it best (dark).
Multi-Head Attention: four heads do so side by side, each with its own idea of a match; two are shown.
SE: a gate for each of the {channels} channels, computed from all of them. A bar up: this channel is more open than
its average over all images; a bar down: less.
ECA: the same, but each gate is computed from its own channel and the two beside it.
CBAM: gates channels as SE does, then positions (dark: 1, white: {lowest:.2f}). Here nine position gates in ten are
above {tenth:.3f}.
STN: chooses a frame in the image, and the network sees only what is in the frame.
Trained on {data}; the blocks stand after stage 2, on {where}s. STN stands before its network, trained on {shapes}."""


def trained(script: str, path: Path, data: Data) -> nn.Module:
    model = build(script, len(data.classes))
    load_trained(path, model, data)
    return model.eval()


def first_images(data: Data, classes: list[str]) -> Tensor:
    """The index of the first test image of each class, or of the first classes where they have other names."""
    labels = [data.classes.index(name) if name in data.classes else k for k, name in enumerate(classes)]
    return torch.stack([(data.test_labels == label).nonzero()[0, 0] for label in labels])


def first_probe(model: nn.Module, kind: str, data: Data) -> numbers.Probe:
    return next(probe for probe in numbers.find_probes(model, data.test_images) if probe.kind == kind)


def attention_maps(model: nn.Module, data: Data, chosen: Tensor) -> Tensor:
    return numbers.weights(model, first_probe(model, "weights", data), data, chosen).maps


def bars(values: Tensor, limit: float) -> Panel:
    """A bar for each channel, in a panel of 32x32, from its middle up to `limit` or down to -`limit`."""

    def panel(axes: Axes) -> None:
        places = (torch.arange(len(values)) + 0.5) * 32 / len(values)
        colours = ["tab:orange" if value > 0 else "tab:purple" for value in values]
        axes.bar(places, -15 * values / limit, 32 / len(values), bottom=16, color=colours)
        axes.axhline(16, color="black", linewidth=0.6)

    return panel


def channel_gates(model: nn.Module, data: Data, chosen: Tensor) -> Tensor:
    """(n, C), the chosen images' gates minus their means over all test images."""
    gates = numbers.answers(model, first_probe(model, "channels", data), data.test_images)
    return gates[chosen] - gates.mean(0)


def frames(model: nn.Module, data: Data, chosen: Tensor) -> tuple[list[Panel], list[Panel]]:
    """Each image with its frame, and what is sampled from it."""
    frame = numbers.frame(model, first_probe(model, "theta", data), data, chosen)
    pairs = zip(data.test_images[chosen], frame.corners.numpy(), strict=True)
    framed = [photograph(image, outline(Polygon(corners))) for image, corners in pairs]
    return framed, [photograph(image) for image in frame.sampled]


@default_style
def draw(runs: Path, of_shapes: Path, data: Data, path: Path) -> None:
    chosen, shapes = first_images(data, CLASSES), load_data("shapes")
    stn = trained("STN-Attention", of_shapes / "STN-Attention-shapes.pt", shapes)

    def of_script(script: str) -> nn.Module:
        return trained(script, runs / f"{script}.pt", data)

    heads = attention_maps(of_script("Multi-Head Attention"), data, chosen)
    se, eca = (channel_gates(of_script(f"{name}-Attention"), data, chosen) for name in ("SE", "ECA"))
    limit = torch.stack([se, eca]).abs().max().item()
    cbam = of_script("CBAM-Attention")
    positions = first_probe(cbam, "positions", data)
    gates = numbers.answers(cbam, positions, data.test_images)[:, 0]
    open_or_closed = Scale(Normalize(gates.min().item(), 1), INK, "", {})
    framed, seen = frames(stn, shapes, first_images(shapes, SHAPES))
    columns = {
        "image": [photograph(data.test_images[i], name_queries({"A"})) for i in chosen],
        "Self-\nAttention": attention(attention_maps(of_script("Self-Attention"), data, chosen), 0, "A"),
        "Multi-Head,\nhead 1": attention(heads, 0, "A"),
        "Multi-Head,\nhead 2": attention(heads, 1, "A"),
        "SE,\nchannels": [bars(gate, limit) for gate in se],
        "ECA,\nchannels": [bars(gate, limit) for gate in eca],
        "CBAM,\npositions": [heat(gates[i], open_or_closed) for i in chosen],
        "": [None] * len(chosen),
        "a drawn\nshape": framed,
        "STN:\nwhat it sees": seen,
    }
    names = [data.classes[label] for label in data.test_labels[chosen]]
    rows = list(zip(names, zip(*columns.values(), strict=True), strict=True))
    section = panel_rows(("", ""), rows, [title for title in columns if title])
    text = CAPTIONS.format(
        channels=se.shape[1],
        lowest=gates.min(),
        tenth=gates.flatten().sort().values[gates.numel() // 10],
        data=data.name,
        where=positions.where,
        shapes=shapes.name,
    )
    lines = text.count("\n") + 1
    figure = Figure(figsize=(WIDTH, section.height + 0.25 + 0.17 * lines), dpi=DPI)
    body, foot = figure.subfigures(2, 1, height_ratios=[section.height, 0.25 + 0.17 * lines])
    section.draw(body)
    foot.text(0.015, 0.5, text, va="center", color=TEXT_GREY, linespacing=1.35)
    save(figure, path)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = "the folder of the checkpoints (default: plots)"
    parser.add_argument("--runs", type=Path, default="plots", help=folder)
    parser.add_argument("--shapes", type=Path, default="plots", help="the same of STN's on the drawn shapes")
    parser.add_argument("--data", default="data", help="as the scripts take it")
    out = "the folder for the picture (default: %(default)s)"
    parser.add_argument("--out", type=writable_folder, default=GALLERY, help=out)
    options = parser.parse_args()
    with plain_errors(options):
        draw(options.runs, options.shapes, load_data(options.data), options.out / "blocks.png")


if __name__ == "__main__":
    main()
