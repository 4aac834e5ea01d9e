"""What an NVIDIA GPU alone can show; skipped where there is none."""

import json

import pytest
import torch
from helpers import NETWORKS, SCRIPTS, build, copy_script, rows, run
from torch import nn

from common import CNN, evaluate, set_seed, train_epoch, train_step
from support.data.shapes import draw_shapes
from support.run.cuda_graph import GraphedStep
from support.run.device import memory_order, tuned

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def data():
    """400 images to train, in six batches of 64 and one of 16, and 100 to test."""
    return draw_shapes(400, 100)


def network(name: str, dropout: bool = True) -> nn.Module:
    set_seed(0, epoch=0)
    model = build(name)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout) and not dropout:
            layer.p = 0.0
    return model


def train(model, data, step, device=GPU, precision="fp32", epochs=2):
    """What a run does: trains and tests by epochs; the figures and the trained tensors."""
    layout = memory_order(device, precision)
    model.to(device, memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    images, labels, *test = data.on(device, layout)
    figures = []
    with tuned(model, device, precision):
        for epoch in range(1, epochs + 1):
            set_seed(0, epoch)
            figures += train_epoch(model, optimizer, images, labels, 64, precision, step=step)
            figures += evaluate(model, *test, precision)
    return figures, [tensor.cpu() for tensor in model.state_dict().values()]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "tf32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_trains_as_plain_steps_do(name, precision, data, capsys):
    step = GraphedStep(train_step)
    plain_figures, plain = train(network(name), data, train_step, precision=precision)
    figures, graphed = train(network(name), data, step, precision=precision)
    assert step.graph and "without a CUDA graph" not in capsys.readouterr().out
    assert figures == plain_figures
    assert all(map(torch.equal, graphed, plain))


class Waits(nn.Module):
    """A block that fetches a value from the GPU, which no graph can hold."""

    def forward(self, x):
        return x * (1 + x.mean().item() / 1000)


def test_training_goes_on_after_a_capture_that_failed(data, capsys):
    """CUDA's random generator is told of a capture, and must learn that it has ended."""

    def network():
        set_seed(0, epoch=0)
        return CNN((8, 16), hidden=16, attention=lambda channels: Waits())  # with dropout

    plain, step = train(network(), data, train_step), GraphedStep(train_step)
    assert train(network(), data, step)[0] == plain[0]
    assert step.graph is None and capsys.readouterr().out.count("Training without a CUDA graph (slower): ") == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gpu_trains_as_a_cpu_does_and_bf16_nearly_so(name, data):
    """Without dropout, whose random numbers differ. Sums in another order differ in the seventh digit, and Adam's
    first steps, of 0.001 whatever the gradient, make more of that where a gradient is nearly 0."""
    on_cpu, fp32, bf16 = (
        train(network(name, dropout=False), data, step, device, precision, epochs=1)[0]
        for step, device, precision in (
            (train_step, CPU, "fp32"),
            (GraphedStep(train_step), GPU, "fp32"),
            (GraphedStep(train_step), GPU, "bf16"),
        )
    )
    assert fp32[0] == pytest.approx(on_cpu[0], rel=1e-4) and fp32[2] == pytest.approx(on_cpu[2], rel=1e-3)
    assert bf16 != fp32 and bf16[0] == pytest.approx(fp32[0], rel=0.01)


def test_fp32_is_ieee_single_precision():
    """TF32, with its 10 bits, is off by about 3e-4."""
    torch.manual_seed(0)
    x, weight = torch.randn(8, 64, 16, 16, device=GPU), torch.randn(64, 64, 3, 3, device=GPU)
    flat, square = torch.randn(256, 512, device=GPU), torch.randn(512, 512, device=GPU)
    with tuned(nn.Conv2d(3, 1, 1).to(GPU), GPU, "fp32"):
        for function, arguments in ((nn.functional.conv2d, (x, weight)), (torch.matmul, (flat, square))):
            result, exactly = function(*arguments), function(*(argument.double() for argument in arguments))
            assert ((result - exactly).norm() / exactly.norm()).item() < 1e-5


@pytest.mark.parametrize("script", ["Multi-Head Attention", "STN-Attention"])
def test_resuming_is_to_the_digit_with_or_without_a_graph(script, tree, tmp_path):
    flags = ["--data", tree, "--device", "cuda", "--batch-size", 8]
    assert run(script, *flags, "--epochs", 3, "--out", "whole", "--no-graph", cwd=tmp_path).status == 0
    for epochs in (1, 3):
        assert run(script, *flags, "--epochs", epochs, "--out", "parts", "--resume", cwd=tmp_path).status == 0
    assert rows(tmp_path / "whole" / f"{script}.csv") == rows(tmp_path / "parts" / f"{script}.csv")


@pytest.mark.parametrize("devices", [("cpu", "cuda", "cpu"), ("cuda", "cpu", "cuda")])
def test_a_run_continues_on_another_device(devices, tree, tmp_path):
    """Without dropout, whose random numbers differ."""
    script = copy_script("CNN", tmp_path / "Mine.py", "CNN(num_classes", "CNN(dropout=0.0, num_classes")
    flags = ["--data", tree, "--batch-size", 16]
    for epochs, device in enumerate(devices, 1):
        result = run(script, *flags, "--epochs", epochs, "--device", device, "--resume", cwd=tmp_path)
        assert (result.status, result.err) == (0, "")
    assert run(script, *flags, "--epochs", 3, "--device", "cpu", "--out", "cpu", cwd=tmp_path).status == 0
    losses = [[float(line.split(",")[1]) for line in rows(tmp_path / out / "Mine.csv")[1:]] for out in ("plots", "cpu")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_trains_draws_and_looks(script, tree, tmp_path):
    flags, picture = ["--data", tree, "--epochs", 1], tmp_path / "plots" / f"{script}.attention.png"
    result = run(script, *flags, "--device", "cuda:0", cwd=tmp_path, attention=True)
    assert (result.status, result.err) == (0, "") and "on cuda:0" in result.out
    facts, before = json.loads((tmp_path / "plots" / f"{script}.json").read_text()), picture.read_bytes()
    assert facts["device"] == torch.cuda.get_device_name(0)
    result = run(script, *flags, "--look", cwd=tmp_path, attention=True)
    assert (result.status, result.err) == (0, "") and picture.read_bytes() == before
