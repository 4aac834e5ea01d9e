"""Draws the six blocks in one picture, `plots/gallery/blocks.png`: what each does to the same photographs.

    python benchmarks/blocks.py --data "CIFAR-10 JPEG copy" --runs plots --shapes plots

The folder `--runs` has the checkpoints of the scripts, trained on the images of `--data`; the folder `--shapes` has
`STN-Attention-shapes.pt`, trained on the drawn shapes, since on CIFAR-10 STN's frame stays the whole image.
"""

import argparse
from pathlib import Path

import torch
from gallery import GALLERY
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
Self-Attention: every position, here A, gathers from the positions that match it best (dark).
Multi-Head Attention: four heads, of which two are shown, look for different things at once.
SE: opens (orange) or closes (purple) each of 64 channels by what is in the image, against its mean over all images.
ECA: the same, but each gate is computed from its channel and the two neighbours alone.
CBAM: gates channels as SE does, and then positions (dark: let through; from image to image little changes).
STN: cuts out the part of the image that the network is to see, here of a drawn shape."""


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


def channel_gates(model: nn.Module, data: Data, chosen: Tensor) -> list[Panel]:
    """Each image's gates minus their means over all test images, the channels as rows of eight."""
    gates = numbers.answers(model, first_probe(model, "channels", data), data.test_images)
    difference = (gates[chosen] - gates.mean(0)).unflatten(1, (-1, 8))
    limit = difference.abs().max().item()
    return [heat(values, Scale(Normalize(-limit, limit), "PuOr_r", "", {})) for values in difference]


def position_gates(model: nn.Module, data: Data, chosen: Tensor) -> list[Panel]:
    gates = numbers.positions(model, first_probe(model, "positions", data), data, chosen).maps
    return [heat(gate, Scale(Normalize(gate.min().item(), gate.max().item()), INK, "", {})) for gate in gates]


def frames(model: nn.Module, data: Data, chosen: Tensor) -> list[Panel]:
    corners = numbers.frame(model, first_probe(model, "theta", data), data, chosen).corners.numpy()
    return [photograph(data.test_images[i], outline(Polygon(c))) for i, c in zip(chosen, corners, strict=True)]


@default_style
def draw(runs: Path, of_shapes: Path, data: Data, path: Path) -> None:
    chosen, shapes = first_images(data, CLASSES), load_data("shapes")

    stn = trained("STN-Attention", of_shapes / "STN-Attention-shapes.pt", shapes)

    def of_script(script: str) -> nn.Module:
        return trained(script, runs / f"{script}.pt", data)

    heads = attention_maps(of_script("Multi-Head Attention"), data, chosen)
    columns = {
        "image": [photograph(data.test_images[i], name_queries({"A"})) for i in chosen],
        "Self-\nAttention": attention(attention_maps(of_script("Self-Attention"), data, chosen), 0, "A"),
        "Multi-Head,\nhead 1": attention(heads, 0, "A"),
        "Multi-Head,\nhead 2": attention(heads, 1, "A"),
        "SE,\nchannels": channel_gates(of_script("SE-Attention"), data, chosen),
        "ECA,\nchannels": channel_gates(of_script("ECA-Attention"), data, chosen),
        "CBAM,\npositions": position_gates(of_script("CBAM-Attention"), data, chosen),
        "STN,\nframe": frames(stn, shapes, first_images(shapes, SHAPES)),
    }
    names = [data.classes[label] for label in data.test_labels[chosen]]
    section = panel_rows(("", ""), list(zip(names, zip(*columns.values(), strict=True), strict=True)), list(columns))
    text = f"{CAPTIONS}\nTrained on {data.name}; STN on {shapes.name}."
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
