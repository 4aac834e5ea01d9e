"""Writes `docs/index.html`, a page for exploring what the six blocks attend to, from the checkpoints of trained runs.

    python benchmarks/explore.py --data "JPEG copy of CIFAR-10" --runs trained/seed0 --shapes stn

The folder `--runs` has the checkpoints of the five scripts other than STN, trained on the images of `--data`. The
folder `--shapes` has copies of the checkpoint of one run of STN on the drawn shapes, `2.pt` after two epochs and so on:

    python STN-Attention.py --data shapes --seed 1 --out stn --epochs 2
    cp stn/STN-Attention-shapes.pt stn/2.pt
    python STN-Attention.py --data shapes --seed 1 --out stn --epochs 5 --resume
    cp stn/STN-Attention-shapes.pt stn/5.pt
"""

import base64
import io
import json
from pathlib import Path

import torch
from networks import ROOT, build
from PIL import Image
from torch import Tensor, nn
from trained import attended, load_run, nth_of_class, parse

from common import evaluate, load_data, set_seed
from support.data.dataset import Data, normalize
from support.errors import UserError, plain_errors
from support.files import replacing

# a class, and how many of its test images come before: chosen as easy to recognise, before any network saw them
PHOTOS = [("horse", 13), ("airplane", 9), ("automobile", 16), ("bird", 3), ("cat", 16), ("deer", 11), ("dog", 17),
          ("frog", 16), ("ship", 5), ("truck", 11), ("horse", 0), ("airplane", 22)]  # fmt: skip
SHAPES = [(name, 0) for name in ("star", "arrow", "circle", "cross", "triangle", "ring")]
OCTAVES = 6  # weights are kept from 2^-6 to 2^6 times their mean


def pack(weights: Tensor) -> dict:
    """Attention weights (n, heads, HW, HW), a byte each: the logarithm of how many times their mean they are."""
    heads, squares = weights.shape[1:3]
    octaves = (weights * squares).log2().clamp(-OCTAVES, OCTAVES)
    levels = (255 * (octaves + OCTAVES) / (2 * OCTAVES)).round().byte()
    return {"side": round(squares**0.5), "heads": heads, "bytes": base64.b64encode(levels.numpy()).decode()}


def rounded(values: Tensor, decimals: int = 3) -> list:
    return values.double().round(decimals=decimals).tolist()


def pictures(data: Data, chosen: Tensor) -> list[dict]:
    """Test images as PNGs within the page, with the names of their classes."""
    found = []
    for image, label in zip(data.test_images[chosen], data.test_labels[chosen], strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "png", optimize=True)
        text = base64.b64encode(file.getvalue()).decode()
        found.append({"name": data.classes[label], "src": f"data:image/png;base64,{text}"})
    return found


@torch.no_grad()
def said(model: nn.Module, data: Data, chosen: Tensor) -> dict:
    """A network's probability of each class for the chosen test images, and its accuracy on all of them."""
    probabilities = model(normalize(data.test_images[chosen])).softmax(1)
    _, accuracy = evaluate(model, data.test_images, data.test_labels)
    return {"answers": rounded(probabilities), "accuracy": round(accuracy)}


def of_photos(runs: Path, data: Data, chosen: Tensor) -> tuple[dict, dict]:
    """What each network says, and what its blocks attend to; and the runs' facts."""
    networks = {}
    for script in ("Self-Attention", "Multi-Head Attention", "SE-Attention", "ECA-Attention", "CBAM-Attention"):
        model, facts = load_run(runs / f"{script}.pt", script, data)
        networks[script] = said(model, data, chosen)
        if "Head" in script or "Self" in script:
            networks[script]["maps"] = [pack(maps) for maps in attended(model, "weights", data.test_images[chosen])]
        elif "CBAM" in script:
            gates = attended(model, "positions", data.test_images[chosen])
            networks[script]["gates"] = [rounded(gate.flatten(1), 6) for gate in gates]
        else:
            gates = attended(model, "channels", data.test_images)
            networks[script]["gates"] = [rounded(gate[chosen]) for gate in gates]
            networks[script]["means"] = [rounded(gate.mean(0)) for gate in gates]
    return networks, facts


def of_shapes(folder: Path, data: Data, chosen: Tensor) -> tuple[dict, dict]:
    """STN's frame around each shape, and what the network says, after each number of epochs; and the run's facts."""
    ages = sorted(int(path.stem) for path in folder.glob("*.pt") if path.stem.isdecimal())
    if not ages:
        raise UserError(f"{folder} has no checkpoints 2.pt, 5.pt and so on: see --help", 2)
    models, facts = zip(*(load_run(folder / f"{age}.pt", "STN-Attention", data) for age in ages), strict=True)
    set_seed(facts[0]["seed"], epoch=0)
    models = [build("STN-Attention", len(data.classes)).eval(), *models]  # before training
    answers = [said(model, data, chosen) for model in models]
    stn = {key: [answer[key] for answer in answers] for key in ("answers", "accuracy")}
    thetas = [attended(model, "theta", data.test_images[chosen])[0].flatten(1) for model in models]
    return {"epochs": [0, *ages], "classes": data.classes, "theta": rounded(torch.stack(thetas)), **stn}, facts[0]


def explore(runs: Path, shapes_folder: Path, data: Data, path: Path) -> None:
    shapes = load_data("shapes")
    photos_chosen, shapes_chosen = nth_of_class(data, PHOTOS), nth_of_class(shapes, SHAPES)
    networks, facts = of_photos(runs, data, photos_chosen)
    stn, stn_facts = of_shapes(shapes_folder, shapes, shapes_chosen)
    numbers = {
        "about": f"The photos are test images of the {data.name}: no network was trained on them. Five networks were "
        f"trained on its {len(data.train_labels):,} training images for {facts['epochs']} epochs (seed "
        f"{facts['seed']}), the spatial transformer on the drawn shapes (seed {stn_facts['seed']}); each is one run.",
        "classes": data.classes,
        "photos": pictures(data, photos_chosen),
        "shapes": pictures(shapes, shapes_chosen),
        "networks": networks,
        "stn": stn,
    }
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    text = json.dumps(numbers, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    with replacing(path) as temporary:
        temporary.write_bytes(template.replace("{{data}}", text).encode())


def main() -> None:
    options = parse(__doc__, out=ROOT / "docs")
    with plain_errors(options):
        explore(options.runs, options.shapes, load_data(options.data), options.out / "index.html")


if __name__ == "__main__":
    main()
