"""The trunk, training and testing, the datasets in memory, and what may import what."""

import ast
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from helpers import NETWORKS, ROOT, SCRIPTS, build, load, rows
from torch import nn
from torch.nn import functional as F

import common
from common import CNN, evaluate, load_data, set_seed, train_epoch
from support.data.dataset import checksum
from support.data.shapes import draw_shapes


def test_a_seed_orders_the_images_alike_in_every_script():
    orders = []
    for script in ("CNN", "STN-Attention"):
        set_seed(3, epoch=0)
        load(script).build(10)  # draws more or fewer weights
        set_seed(3, epoch=1)
        orders.append(torch.randperm(1000))
    assert orders[0].equal(orders[1])
    set_seed(3, epoch=2)
    assert not orders[0].equal(torch.randperm(1000))


def test_training_is_plain_adam_on_the_same_batches():
    """The fast loop against a plain one: contiguous maps, ReLU before pool, unfused Adam."""
    data = draw_shapes(640, 10)
    network = CNN((8, 16), hidden=16, dropout=0.0)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    conv1, conv2, fc1, fc2 = (layer for layer in network.modules() if hasattr(layer, "weight"))
    stages = [conv1, nn.ReLU(), nn.MaxPool2d(2), conv2, nn.ReLU(), nn.MaxPool2d(2)]
    plain = nn.Sequential(*stages, nn.Flatten(), fc1, nn.ReLU(), fc2)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.001, foreach=False)
    set_seed(0, epoch=1)
    expected = []
    for batch in torch.randperm(640).split(64):
        x = torch.stack([data.train_images[i].contiguous().float() / 127.5 - 1 for i in batch])
        loss = F.cross_entropy(plain(x), data.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    trained = [parameter.detach().clone() for parameter in plain.parameters()]

    network.load_state_dict(start)
    network.to(memory_format=torch.channels_last)
    images = data.train_images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001, fused=True)
    set_seed(0, epoch=1)
    mean, _ = train_epoch(network, optimizer, images, data.train_labels, 64)
    assert mean == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    for fast, slow in zip(network.parameters(), trained, strict=True):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-4)  # after ten steps of 0.001


def test_means_are_exact(finished, tree):
    """The recorded test values, and those of two batches of different sizes, recomputed one image at a time."""
    plots, data = finished["CNN"][1] / "plots", load_data(str(tree))
    network = load("CNN").build(len(data.classes)).eval()
    network.load_state_dict(torch.load(plots / "CNN.pt", weights_only=True)["model"])
    images, labels = torch.cat([data.test_images, data.train_images]), torch.cat([data.test_labels, data.train_labels])
    with torch.no_grad():
        logits = torch.cat([network(image[None] / 127.5 - 1) for image in images]).double()
    losses, right = F.cross_entropy(logits, labels, reduction="none"), (logits.argmax(1) == labels).double()
    recorded = map(float, rows(plots / "CNN.csv")[-1].split(",")[3:])
    for count, (loss, accuracy) in ((24, recorded), (84, evaluate(network, images, labels))):
        assert loss == pytest.approx(losses[:count].mean().item(), abs=1e-5)
        assert accuracy == pytest.approx(100 * right[:count].mean().item(), abs=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pass_waits_for_nothing_and_stays_on_its_device(name, monkeypatch):
    """On torch's meta device, whose tensors have no values to wait for and do not mix with other devices'."""
    monkeypatch.setattr(common, "means", lambda sums, count: (len(sums), count))  # the one wait
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which the meta device lacks
    with torch.device("meta"):
        network = build(name)
        images, labels = torch.empty(128, 3, 32, 32, dtype=torch.uint8), torch.empty(128, dtype=torch.int64)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001, foreach=False)
    assert train_epoch(network, optimizer, images, labels, 64) == (2, 128)  # two batches
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert evaluate(network, images, labels) == (1, 128)


def test_the_drawn_shapes_are_always_the_same_and_every_pixel_and_label_counts():
    data = draw_shapes(40, 20)
    assert data.train_images.shape == (40, 3, 32, 32) and data.test_labels.bincount().tolist() == [2] * 10
    everything = torch.cat([data.train_images, data.test_images]).flatten(1)
    assert len(everything.unique(dim=0)) == 60  # so none of the test images is in training
    sums = [checksum(data)]
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        changed = getattr(data, field).clone()
        changed[(-1,) * changed.dim()] ^= 1
        sums.append(checksum(data._replace(**{field: changed})))
    assert len(set(sums)) == 5 and checksum(draw_shapes(40, 20)) == sums[0]


FLOORS = ["support", "support.data", "support.run", "support.pictures", "common"]  # from the lowest


def imports(path: Path) -> set[str]:
    """The modules that a file imports, within functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def floor(module: str) -> int:
    """How high up a module of the project stands; everybody else's are at the bottom."""
    return max((k for k, name in enumerate(FLOORS) if f"{module}.".startswith(f"{name}.")), default=0)


def test_nothing_imports_from_further_up_and_a_script_brings_its_block_alone():
    for path in [*(ROOT / "support").rglob("*.py"), ROOT / "common.py"]:
        here = floor(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for module in imports(path):
            assert floor(module) <= here and module.partition(".")[0] not in ("benchmarks", "tests"), (path, module)
    allowed = {"common.CNN", "common.run", "functools.partial", "math", "torch", "torch.nn", "torch.nn.functional"}
    for script in SCRIPTS:
        assert {"common.CNN", "common.run"} <= imports(ROOT / f"{script}.py") <= allowed, script
