"""The settings of a device, and the way to a CUDA graph and back, as far as they show without a GPU."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from helpers import load
from torch import nn

from common import CNN, set_seed, train_epoch, train_step
from support.data.shapes import draw_shapes
from support.run import cuda_graph
from support.run.device import choose_kernels, memory_order, tuned

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
    def forward(self, x):
        if torch.get_deterministic_debug_mode() == 2:
            raise RuntimeError("the_kernel does not have a deterministic implementation, but you set ...")
        return super().forward(x)


@pytest.mark.parametrize(("kind", "mode"), [(nn.Conv2d, 2), (Undetermined, 1)])
def test_deterministic_kernels_alone_where_there_are(kind, mode, capsys):
    model, before = kind(3, 1, 1), torch.get_deterministic_debug_mode()
    try:
        choose_kernels(model, CPU)
        assert torch.get_deterministic_debug_mode() == mode and model.weight.grad is None  # a copy is tried
    finally:
        torch.set_deterministic_debug_mode(before)
    says = "A resumed run may differ in the last digits: the_kernel does not have a deterministic implementation\n"
    assert capsys.readouterr().out == (says if mode == 1 else "")


def test_memory_order():
    orders = [memory_order(device, precision) for device in (CPU, GPU) for precision in ("fp32", "bf16", "tf32")]
    last, contiguous = torch.channels_last, torch.contiguous_format
    assert orders == [last, last, last, contiguous, last, contiguous]


# ---- a CUDA graph that only calls the step again -------------------------------------------------------


class Generator:
    def clone_state(self):
        return self

    def graphsafe_set_state(self, state):
        pass


@pytest.fixture
def step(monkeypatch):
    """A `GraphedStep` on the CPU, where PyTorch's part is played: a capture leaves no trace, a replay is a step."""
    fork = torch.random.fork_rng

    class Graph:
        def replay(self):
            for output, value in zip(step.outputs, train_step(*step.taken), strict=True):
                output.copy_(value)

    class Step(cuda_graph.GraphedStep):
        def capture(self, model, optimizer, precision):
            self.taken = model, optimizer, self.images, self.labels, precision
            return super().capture(model, optimizer, precision)

    @contextmanager
    def capture(graph, stream):
        model, optimizer, *_ = step.taken
        moments = [value for state in optimizer.state.values() for value in state.values()]
        tensors = [tensor.detach() for tensor in (*model.parameters(), *moments)]
        before = [tensor.clone() for tensor in tensors]
        yield
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)

    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: fork([]))
    for name, played in {
        "default_generators": {None: Generator()},
        "current_stream": lambda: None,
        "Stream": lambda: None,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": Graph,
        "graph": capture,
    }.items():
        monkeypatch.setattr(torch.cuda, name, played)
    step = Step(train_step)
    return step


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


def refuse(graph, stream):
    raise RuntimeError("operation not permitted\nand more")


REPLAYED, REFUSED, DIFFERENT = "", "operation not permitted", "replayed steps differ from plain ones"


@pytest.mark.parametrize("why", [REPLAYED, REFUSED, DIFFERENT])
def test_training_is_the_same_with_a_graph_and_where_there_is_a_way_back_from_it(why, step, monkeypatch, capsys):
    plain_numbers, plain, _ = train(train_step)
    if why == REFUSED:
        monkeypatch.setattr(torch.cuda, "graph", refuse)
    elif why == DIFFERENT:
        monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: None)
    numbers, trained, optimizer = train(step)
    assert bool(step.graph) == (why == REPLAYED)
    assert capsys.readouterr().out == (f"Training without a CUDA graph (slower): {why}\n" if why else "")
    assert numbers == plain_numbers and all(map(torch.equal, trained, plain))
    assert not optimizer.param_groups[0]["capturable"]  # or plain steps would warn


def test_running_out_of_memory_is_not_taken_for_a_refusal(step, monkeypatch):
    def full(graph, stream):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "graph", full)
    with pytest.raises(torch.OutOfMemoryError):
        train(step)
