"""The trunk, training and testing."""

from contextlib import nullcontext

import pytest
import torch
from helpers import NETWORKS, build, load, rows, run
from torch import nn
from torch.nn import functional as F

import common
from common import CNN, evaluate, load_data, set_seed, train_epoch
from support.data.dataset import normalize
from support.data.shapes import draw_shapes

# ---- the trunk -----------------------------------------------------------------------------------------

PARAMETERS = {
    "CNN": 545_098,
    "CNN-32-64-128": 356_810,
    "CNN-64-128": 2_175_626,
    "Self-Attention": 382_652,
    "Multi-Head Attention": 439_500,
    "SE-Attention": 359_370,
    "ECA-Attention": 356_816,
    "CBAM-Attention": 359_566,
    "STN-Attention": 2_197_290,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters(name):
    assert sum(parameter.numel() for parameter in build(name).parameters()) == PARAMETERS[name]


def relu_before_pool(network: nn.Module) -> nn.Module:
    """A two-stage trunk's layers, with the same weights, in the usual order and without dropout."""
    conv1, conv2, fc1, fc2 = (layer for layer in network.modules() if hasattr(layer, "weight"))
    stages = [conv1, nn.ReLU(), nn.MaxPool2d(2), conv2, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*stages, nn.Flatten(), fc1, nn.ReLU(), fc2)


def test_trunk_is_relu_then_pool():
    torch.manual_seed(0)
    network, x = CNN((8, 16), hidden=12, num_classes=7).eval(), torch.randn(3, 3, 32, 32)
    plain = relu_before_pool(network)
    torch.testing.assert_close(network(x), plain(x))


def test_trunk_places_blocks():
    kinds = [type(layer).__name__ for layer in load("SE-Attention").build(10).features]
    stage = ["Conv2d", "MaxPool2d", "ReLU"]
    assert kinds == [*stage, *stage, "SEAttention", *stage, "SEAttention"]
    assert [type(layer).__name__ for layer in load("STN-Attention").build(10).features] == [
        "STN",
        *stage,
        *stage,
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"widths": ()}, "one to five"),
        ({"widths": (8,) * 6}, "one to five"),
        ({"widths": (8, 0)}, r"widths \(8 0\)"),
        ({"hidden": 0}, r"hidden \(0\)"),
        ({"dropout": 1.0}, r"dropout \(1.0\)"),
        ({"dropout": -0.1}, r"dropout \(-0.1\)"),
        ({"dropout": float("nan")}, r"dropout \(nan\)"),
    ],
)
def test_trunk_refuses_what_it_cannot_be(wrong, says):
    with pytest.raises(ValueError, match=says):
        CNN(**wrong)


# ---- train and test ------------------------------------------------------------------------------------


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
    plain = relu_before_pool(network)
    start = {key: value.clone() for key, value in network.state_dict().items()}
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


def test_means_are_exact(tree, tmp_path):
    """The recorded test figures, recomputed from the checkpoint one image at a time."""
    assert run("CNN", "--data", tree, "--epochs", 1, "--batch-size", 7, cwd=tmp_path).status == 0
    data = load_data(str(tree))
    network = load("CNN").build(len(data.classes)).eval()
    network.load_state_dict(torch.load(tmp_path / "plots" / "CNN.pt", weights_only=True)["model"])
    with torch.no_grad():
        logits = torch.cat([network(normalize(image[None])) for image in data.test_images]).double()
    loss = -logits.log_softmax(1)[torch.arange(len(logits)), data.test_labels].mean().item()
    accuracy = 100 * (logits.argmax(1) == data.test_labels).double().mean().item()
    last = rows(tmp_path / "plots" / "CNN.csv")[-1].split(",")
    assert float(last[3]) == pytest.approx(loss, abs=1e-5)
    assert float(last[4]) == pytest.approx(accuracy, abs=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pass_waits_for_nothing_and_stays_on_its_device(name, monkeypatch):
    """On torch's meta device, whose tensors have no values to wait for and do not mix with other devices'."""
    monkeypatch.setattr(common, "means", lambda losses, correct, count: (len(losses), count))  # the one wait
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which the meta device lacks
    with torch.device("meta"):
        network = build(name)
        images, labels = torch.empty(128, 3, 32, 32, dtype=torch.uint8), torch.empty(128, dtype=torch.int64)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001, foreach=False)
    assert train_epoch(network, optimizer, images, labels, 64) == (2, 128)  # two batches
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert evaluate(network, images, labels) == (1, 128)
