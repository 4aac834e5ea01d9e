"""A trained network's answers for a user's photos: the likeliest classes, and what its blocks attend to."""

import argparse
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from PIL import Image
from torch import Tensor, nn

from support.data.dataset import printable
from support.data.image_tree import open_picture, read_picture
from support.errors import UserError
from support.pictures.attention import ask, attention, find_blocks, grad_cam, observe
from support.pictures.attention_picture import (
    RELATIVE,
    Column,
    Panel,
    Scale,
    frame_panels,
    grid,
    heat,
    lay_out,
    name_queries,
    photograph,
    weights_columns,
)
from support.pictures.curves import shown_name
from support.pictures.style import save, shorten
from support.run.facts import read_facts
from support.run.record import load_checkpoint

MAPS = 8  # at most, in a row
DETAIL = 256  # pixels of a photo's side in the picture


def ask_photos(options: argparse.Namespace, build: Callable[..., nn.Module]) -> None:
    """Asks the trained run about the photos of `--photo`, and draws `<run>.photo.png`.

    Raises:
        UserError: the run's files cannot be used, or a photo cannot be read.
    """
    checkpoint, json, picture = (options.out / f"{options.name}{ending}" for ending in (".pt", ".json", ".photo.png"))
    facts = read_facts(json)
    if not facts.get("classes"):
        raise UserError(f"{json} has no class names: write it again with --look, or train again", 2)
    model = build(num_classes=len(facts["classes"])).to(options.device)
    optimizer = torch.optim.Adam(model.parameters())  # whose state is not used
    load_checkpoint(checkpoint, facts, [], model, optimizer, "train again, without --photo")
    draw_photos(model, facts, options.photo, picture)
    print(f"Done: {picture}")


def squares(file: Path) -> tuple[Tensor, Tensor]:
    """A photo as a square, as the picture shows it and as the network sees it: (3, side, side) uint8 each.

    The network's is resized as in training: a photo that is not square is squeezed.
    """
    photo = open_picture(file, 2 * DETAIL).resize((DETAIL, DETAIL), Image.BILINEAR)
    large, small = (torch.from_numpy(np.array(square)).permute(2, 0, 1) for square in (photo, read_picture(file)))
    return large, small


def draw_photos(model: nn.Module, facts: dict, files: Sequence[Path], path: Path) -> None:
    """Prints the three likeliest classes of each photo, and draws them with what the model's blocks attend to.

    Args:
        facts: of the model's run.
        path: of the picture.
    """
    classes = facts["classes"]
    large, small = (torch.stack(photos) for photos in zip(*map(squares, files), strict=True))
    with torch.no_grad():
        logits, _ = observe(model, {}, small)
    likely, labels = logits.float().softmax(1).cpu().topk(min(3, len(classes)))
    rows = []
    for file, shares, places in zip(files, likely.tolist(), labels.tolist(), strict=True):
        name = printable(file.name)
        print(f"{name}: {', '.join(f'{classes[k]} {share:.1%}' for k, share in zip(places, shares, strict=True))}")
        answer = [f"{shorten(classes[k], 12)} {share:.0%}" for k, share in zip(places, shares, strict=True)]
        rows.append("\n".join([shorten(name, 16), *answer]))
    columns, scale, text = what_it_attends_to(model, large, small, labels[:, 0])
    known = textwrap.shorten(", ".join(classes), 160, placeholder=" …")
    text += f" The network knows only these classes, and names one of them whatever a photo shows: {known}."
    title = "what it sees in a photo" if len(files) == 1 else f"what it sees in {len(files)} photos"
    section = grid(title, text.strip(), columns, rows, scale)
    save(lay_out([section], shown_name(path.name.removesuffix(".photo.png")), f"Trained on {facts['data']}."), path)


def what_it_attends_to(
    model: nn.Module, large: Tensor, small: Tensor, labels: Tensor
) -> tuple[list[Column | None], Scale | None, str]:
    """Columns of panels, the photos first, with their scale and text; Grad-CAM of the labels if there are no blocks."""
    blocks, _ = find_blocks(model, small)
    answers = ask(model, blocks, small, attention) if blocks else {}
    kinds = {kind: [given for block, given in answers.items() if block.kind == kind] for kind in TEXTS}
    photos = [photograph(photo, name_queries("A" if kinds["weights"] else "")) for photo in large]
    gates = torch.cat([given.flatten() for given in kinds["positions"]] or [torch.zeros(1)])
    scales = {"weights": RELATIVE, "positions": Scale(Normalize(gates.min(), gates.max()), "gate")}
    highest = max([1.0, *(given.max().item() for given in kinds["channels"])])
    maps = []
    for block, given in answers.items():
        if block.kind == "weights":
            maps += weights_columns(block, given, "A")
        elif block.kind == "channels":
            maps.append((f"{block.where}\nchannels", [gate_bars(one, highest) for one in given]))
        elif block.kind == "positions":
            maps.append((f"{block.where}\npositions", [heat(one, scales["positions"]) for one in given]))
        else:
            photos = [frame_panels(photo, theta)[0] for photo, theta in zip(large, given, strict=True)]
            cut_out = [frame_panels(photo, theta)[1] for photo, theta in zip(small, given, strict=True)]
            maps.append(("in the frame", cut_out))
    if not blocks and (cams := grad_cam(model, small, labels)) is not None:
        kinds["cam"], scales["cam"] = [cams], Scale(Normalize(0, 1), "Grad-CAM")
        maps.append(("Grad-CAM", [heat(cam, scales["cam"]) for cam in cams]))
    shown = [kind for kind, given in kinds.items() if given]
    scale = next((scales[kind] for kind in shown if kind in scales), None)
    text = " ".join(TEXTS[kind].format(highest=highest) for kind in shown)
    seen = [photograph(photo) for photo in small]
    return [("photo", photos), ("at 32x32", seen), None, *maps[:MAPS]], scale, text


TEXTS = {
    "weights": "Maps: what the position in the square (A in the photo) attends to; 1 on the scale is what every "
    "position would get if attention were uniform.",
    "channels": "A bar for each channel: its gate, by which the channel is multiplied, from 0 to {highest:.2g}.",
    "positions": "Maps: the gate of each position, by which the position is multiplied.",
    "theta": "White: the frame that the block chooses; the network sees only what is in the frame.",
    "cam": "Grad-CAM estimates from gradients which positions raise the score of the likeliest class.",
}


def gate_bars(gates: Tensor, highest: float) -> Panel:
    """A bar for each channel (C,), from the bottom."""

    def panel(axes: Axes) -> None:
        width = 32 / len(gates)
        places, heights = (np.arange(len(gates)) + 0.5) * width, -31 * gates.numpy() / highest
        axes.bar(places, heights, width, bottom=32, color="tab:blue")

    return panel
