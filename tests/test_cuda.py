"""What an NVIDIA GPU alone can show; skipped where there is none."""

import json
import random

import numpy as np
import pytest
import torch
from helpers import NETWORKS, Process, build, load, rows, run
from torch import nn

from common import CNN, evaluate, set_seed, train_epoch, train_step
from support.data.shapes import draw_shapes
from support.run.cuda_graph import GraphedStep
from support.run.gpu import memory_format, tuned_gpu

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

GPU = torch.device("cuda")
RESNETS = [None, "SE", "Multi-Head", "STN"]


@pytest.fixture(scope="module")
def data():
    """400 images to train, in six batches of 64 and one of 16, and 100 to test."""
    return draw_shapes(400, 100)


@pytest.fixture
def exact():
    """The settings of a run on a GPU, for what is not of one network."""
    with tuned_gpu(GPU, "fp32", nn.Conv2d(3, 1, 1).to(GPU)):
        yield


def network(name: str, dropout: bool = True) -> nn.Module:
    """One of the nine, `ResNet-8`, or `ResNet-8` with a block."""
    set_seed(0, epoch=0)
    resnet, _, block = name.partition(" with ")
    model = load(resnet).build(10, block or None) if resnet == "ResNet-8" else build(name)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout) and not dropout:
            layer.p = 0.0
    return model


def train(model, data, step, device=GPU, precision="fp32", epochs=2):
    """What a run does: trains and tests by epochs; the figures and the trained tensors."""
    layout = memory_format(device, precision)
    model.to(device, memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    images, labels, *test = data.on(device, layout)
    figures = []
    with tuned_gpu(device, precision, model):
        for epoch in range(1, epochs + 1):
            set_seed(0, epoch)
            figures += train_epoch(model, optimizer, images, labels, 64, precision, step=step)
            figures += evaluate(model, *test, precision)
    return figures, [tensor.cpu() for tensor in model.state_dict().values()]


# ---- the graph -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16", "tf32"])
@pytest.mark.parametrize("name", [*NETWORKS, *("ResNet-8" + (f" with {block}" if block else "") for block in RESNETS)])
def test_a_graph_trains_as_plain_steps_do(name, precision, data, capsys):
    step = GraphedStep(train_step)
    plain_figures, plain = train(network(name), data, train_step, precision=precision)
    figures, graphed = train(network(name), data, step, precision=precision)
    assert step.graph and "without a CUDA graph" not in capsys.readouterr().out
    assert figures == plain_figures
    assert all(map(torch.equal, graphed, plain))


class Passes(nn.Module):
    """Its input, after `what` has been called with the module and the input, for a factor."""

    def __init__(self, what):
        super().__init__()
        self.what, self.calls = what, 0
        self.seen, self.kept = [], torch.zeros(1, device=GPU)

    def forward(self, x):
        return x * self.what(self, x)


def count(block, x):
    block.calls += 1
    return 1 + block.calls / 1000


def count_in_a_list(block, x):
    block.seen.append(0)
    return 1 + len(block.seen) / 1000


def keep(block, x):
    block.kept = 0.9 * block.kept + 0.1 * x.detach().mean()
    return 1 + block.kept / 1000


REFUSED = {
    "waits for a value": lambda block, x: 1 + x.mean().item() / 1000,
    "waits for a shape": lambda block, x: 1 + len(x[x > 0]) / 1e9,
    "random": lambda block, x: random.choice([0.5, 1.0]),
    "numpy": lambda block, x: np.random.choice([0.5, 1.0]),
    "torch on the CPU": lambda block, x: torch.rand(1).item(),
    "counts": count,
    "keeps a tensor": keep,
    "counts in a list": count_in_a_list,
    "torch on the CPU, seldom": lambda block, x: 1 if torch.rand(()) > 0.001 else 2,
    "copies from the CPU": lambda block, x: torch.rand(1).to(x.device),
}


@pytest.mark.parametrize("what", REFUSED.values(), ids=REFUSED)
def test_what_a_graph_would_change_or_cannot_hold_trains_without_it(what, data, capsys):
    def trained(step):
        random.seed(0), np.random.seed(0)
        set_seed(0, epoch=0)
        return train(CNN((8, 16), hidden=16, attention=lambda channels: Passes(what)), data, step, epochs=1)

    step = GraphedStep(train_step)
    trained(step)
    assert step.graph is None and capsys.readouterr().out.count("Trained without a CUDA graph, so more slowly: ") == 1


def test_dropout_goes_on_after_a_capture_that_failed(data, monkeypatch):
    """CUDA's random generator is told of a capture, and must learn that it has ended."""
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)  # so that it fails as late as can be
    step = GraphedStep(train_step)
    set_seed(0, epoch=0)
    block = lambda channels: Passes(REFUSED["waits for a value"])  # noqa: E731
    figures, _ = train(CNN((8, 16), hidden=16, attention=block), data, step)
    assert step.graph is None and figures[-2] > 0


def test_memory_does_not_grow(data, exact):
    model = network("SE-Attention").to(GPU)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    images, labels, *test = data.on(GPU, torch.contiguous_format)
    step, used = GraphedStep(train_step), []
    for _ in range(10):
        train_epoch(model, optimizer, images, labels, 64, step=step)
        evaluate(model, *test)
        used.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert used[1] == used[9]


# ---- the figures ---------------------------------------------------------------------------------------


def test_fp32_is_ieee_single_precision(exact):
    """TF32, with its 10 bits, is off by about 3e-4."""
    torch.manual_seed(0)
    x, weight = torch.randn(8, 64, 16, 16, device=GPU), torch.randn(64, 64, 3, 3, device=GPU)
    flat, square = torch.randn(256, 512, device=GPU), torch.randn(512, 512, device=GPU)
    for function, arguments in [
        (nn.functional.conv2d, (x, weight)),
        (torch.matmul, (flat, square)),
        (nn.functional.scaled_dot_product_attention, (x.flatten(2)[:, None],) * 3),
    ]:
        result, exactly = function(*arguments), function(*(argument.double() for argument in arguments))
        assert ((result - exactly).norm() / exactly.norm()).item() < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gpu_trains_as_a_cpu_does(name, data):
    """Without dropout, whose random numbers differ. Sums in another order differ in the seventh digit, and Adam's
    first steps, of 0.001 whatever the gradient, make more of that where a gradient is nearly 0."""
    on_cpu, _ = train(network(name, dropout=False), data, train_step, torch.device("cpu"), epochs=1)
    on_gpu, _ = train(network(name, dropout=False), data, GraphedStep(train_step), epochs=1)
    assert on_gpu[0] == pytest.approx(on_cpu[0], rel=1e-4)
    assert on_gpu[2] == pytest.approx(on_cpu[2], rel=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_trains_nearly_as_fp32_does(name, data):
    fp32, bf16 = (
        train(network(name, dropout=False), data, GraphedStep(train_step), precision=precision, epochs=1)[0]
        for precision in ("fp32", "bf16")
    )
    assert bf16 != fp32 and bf16[0] == pytest.approx(fp32[0], rel=0.01)


# ---- the scripts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["CNN", "Multi-Head Attention", "SE-Attention", "STN-Attention"])
def test_resuming_is_to_the_digit(script, tree, tmp_path):
    flags = ["--data", tree, "--device", "cuda", "--batch-size", 8]
    whole = Process(script, *flags, "--epochs", 3, "--out", "whole", cwd=tmp_path)
    for epochs in (1, 3):
        assert run(script, *flags, "--epochs", epochs, "--out", "parts", "--resume", cwd=tmp_path).status == 0
    assert whole.wait().status == 0
    names = [tmp_path / out / script for out in ("whole", "parts")]
    assert rows(names[0].with_suffix(".csv")) == rows(names[1].with_suffix(".csv"))
    whole, parts = (torch.load(f"{name}.pt", weights_only=True)["model"] for name in names)
    assert all(whole[key].equal(parts[key]) for key in whole)


@pytest.mark.parametrize("devices", [("cpu", "cuda", "cpu"), ("cuda", "cpu", "cuda")])
def test_a_run_continues_on_another_device(devices, tree, tmp_path):
    """Without dropout, whose random numbers differ."""
    flags = ["--data", tree, "--batch-size", 16, "--dropout", 0]
    for epochs, device in enumerate(devices, 1):
        result = run("CNN", *flags, "--epochs", epochs, "--device", device, "--resume", cwd=tmp_path)
        assert (result.status, result.err) == (0, "")
    assert run("CNN", *flags, "--epochs", 3, "--device", "cpu", "--out", "cpu", cwd=tmp_path).status == 0
    losses = [
        [float(line.split(",")[1]) for line in rows(tmp_path / out / "CNN-dropout0.csv")[1:]]
        for out in ("plots", "cpu")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("script", [name for name, network in NETWORKS.items() if not network.flags])
def test_every_script_trains_draws_and_looks(script, tree, tmp_path):
    flags = ["--data", tree, "--epochs", 1, "--batch-size", 8]
    result = run(script, *flags, "--device", "cuda:0", cwd=tmp_path, attention=True)
    assert (result.status, result.err) == (0, "") and "on cuda:0" in result.out
    name = torch.cuda.get_device_name(0)
    assert json.loads((tmp_path / "plots" / f"{script}.json").read_text(encoding="utf-8"))["device"] == name
    picture = tmp_path / "plots" / f"{script}.attention.png"
    before = picture.exists() and picture.read_bytes()
    result = run(script, *flags, "--look", cwd=tmp_path, attention=True)
    assert (result.status, result.err) == (0, "") and (picture.exists() and picture.read_bytes()) == before


def fill_the_card() -> None:
    torch.cuda.set_per_process_memory_fraction(0.0003)


def test_out_of_memory_is_one_line(tree, tmp_path):
    result = run("CNN", "--data", tree, "--epochs", 1, "--device", "cuda", cwd=tmp_path, prepare=fill_the_card)
    assert result.status == 1 and result.err.count("\n") == 1
    assert result.err.startswith("CNN.py: out of memory on cuda: try a smaller --batch-size than 64")


def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    result = run("CNN", "--device", f"cuda:{torch.cuda.device_count()}", cwd=tmp_path)
    assert result.status == 2 and result.err.count("\n") == 1 and "--device cpu" in result.err
