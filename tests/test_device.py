"""The settings of a device, and the way to a CUDA graph and back, as far as they show without a GPU."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from helpers import load
from torch import nn

from common import CNN, set_seed, train_epoch, train_step
from support.data.shapes import draw_shapes
from support.run.cuda_graph import GraphedStep
from support.run.device import choose_kernels, tuned

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_on_a_cpu_avoids_the_fused_kernel_in_bf16_alone(precision, monkeypatch):
    monkeypatch.setattr("sys.platform", "another")  # the C library's settings would stay
    block, before = load("Multi-Head Attention").MultiHeadAttention(64), torch.backends.cuda.flash_sdp_enabled()
    autocast = torch.autocast("cpu", enabled=precision == "bf16")
    with tuned(block, CPU, precision), torch.profiler.profile() as profile, autocast:
        block(torch.randn(2, 64, 8, 8)).sum().backward()
    assert any("flash_attention" in event.key for event in profile.key_averages()) == (precision == "fp32")
    assert torch.backends.cuda.flash_sdp_enabled() == before


class Undetermined(nn.Conv2d):
    """A layer that has no deterministic kernel."""

    def forward(self, x):
        if torch.get_deterministic_debug_mode() == 2:
            raise RuntimeError("the_kernel does not have a deterministic implementation, but you set ...")
        return super().forward(x)


def train(step):
    set_seed(0, epoch=0)
    model = CNN((8, 16), hidden=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    data = draw_shapes(400, 10)
    numbers = []
    for epoch in (1, 2):
        set_seed(0, epoch)
        numbers += train_epoch(model, optimizer, data.train_images, data.train_labels, 64, step=step)
    return numbers, list(model.parameters()), optimizer


def test_where_a_kernel_is_not_deterministic_it_is_said(capsys):
    model, before = Undetermined(3, 1, 1), torch.get_deterministic_debug_mode()
    try:
        choose_kernels(model, CPU)
        assert torch.get_deterministic_debug_mode() == 1 and model.weight.grad is None  # a copy is tried
    finally:
        torch.set_deterministic_debug_mode(before)
    says = "A resumed run may differ in the last digits: the_kernel does not have a deterministic implementation\n"
    assert capsys.readouterr().out == says


@pytest.mark.parametrize("why", ["operation not permitted", "replayed steps differ from plain ones"])
def test_training_goes_on_to_the_digit_where_a_graph_cannot_be_used(why, monkeypatch, capsys):
    """A graph that refuses its capture, and one whose replays do nothing."""

    @contextmanager
    def capture(graph, stream):
        if why == "operation not permitted":
            raise RuntimeError(f"{why}\nand more")
        before = [tensor.detach().clone() for tensor in tensors]
        yield  # what is captured leaves no trace
        for tensor, value in zip(tensors, before, strict=True):
            tensor.detach().copy_(value)

    def step(model, optimizer, *rest):
        tensors[:] = [*model.parameters(), *(value for state in optimizer.state.values() for value in state.values())]
        return train_step(model, optimizer, *rest)

    tensors, fork = [], torch.random.fork_rng
    generator = SimpleNamespace(clone_state=lambda: None, graphsafe_set_state=lambda state: None)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: fork([]))
    monkeypatch.setattr(torch.cuda, "default_generators", {None: generator})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "graph", capture)
    plain_numbers, plain, _ = train(train_step)
    numbers, trained, optimizer = train(GraphedStep(step))
    assert capsys.readouterr().out == f"Training without a CUDA graph (slower): {why}\n"
    assert numbers == plain_numbers and all(map(torch.equal, trained, plain))
    assert not optimizer.param_groups[0]["capturable"]  # or plain steps would warn
