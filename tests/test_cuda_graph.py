"""What leads to a CUDA graph and what away from it, with a graph that only calls the step again."""

import random
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn

from common import CNN, set_seed, train_epoch, train_step
from support.data.shapes import draw_shapes
from support.run import cuda_graph


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
        "set_sync_debug_mode": lambda mode: None,
        "current_stream": lambda: None,
        "Stream": lambda: None,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": Graph,
        "graph": capture,
    }.items():
        monkeypatch.setattr(torch.cuda, name, played)
    step = Step(train_step)
    return step


class Block(nn.Module):
    """Multiplies by what `factor` gives for the block and its input."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.calls, self.mean = factor, 0, torch.ones(1)

    def forward(self, x):
        return x * self.factor(self, x)


def train(step, factor=lambda block, x: 1):
    set_seed(0, epoch=0)
    model = CNN((8, 16), hidden=16, dropout=0.0, attention=lambda channels: Block(factor))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    data = draw_shapes(400, 10)
    figures = []
    for epoch in (1, 2):
        set_seed(0, epoch)
        figures += train_epoch(model, optimizer, data.train_images, data.train_labels, 64, step=step)
    return figures, list(model.parameters()), optimizer


def test_replayed_batches_train_as_plain_ones_do(step):
    plain_figures, plain, _ = train(train_step)
    figures, graphed, optimizer = train(step)
    assert step.graph and figures == plain_figures
    assert all(map(torch.equal, graphed, plain))
    assert not optimizer.param_groups[0]["capturable"]  # or plain steps would warn


def count(block, x):
    block.calls += 1
    return 1 if block.calls < 1000 else 2  # which no comparison of a few steps shows


def keep(block, x):
    block.mean = 0.9 * block.mean + 0.1 * x.detach().mean()
    return 1


@pytest.mark.parametrize(
    "factor",
    [
        count,
        keep,
        lambda block, x: 1 if random.random() < 0.999 else 2,
        lambda block, x: 1 if torch.rand(()) < 0.999 else 2,
    ],
)
def test_what_python_does_in_a_step_is_trained_plainly(factor, step, capsys):
    train(step, factor)
    assert step.graph is None and capsys.readouterr().out.count("Trained without a CUDA graph, so more slowly: ") == 1


def test_a_graph_that_gives_other_figures_is_not_used(step, capsys, monkeypatch):
    plain_figures, plain, _ = train(train_step)
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: None)
    figures, trained, _ = train(step)
    assert step.graph is None and "its replayed steps differ" in capsys.readouterr().out
    assert figures == plain_figures and all(map(torch.equal, trained, plain))


def test_what_cannot_be_captured_is_trained_plainly(step, capsys, monkeypatch):
    def refuse(graph, stream):
        raise RuntimeError("operation not permitted\nand more")

    plain_figures, _, _ = train(train_step)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    figures, _, _ = train(step)
    assert figures == plain_figures
    assert capsys.readouterr().out == "Trained without a CUDA graph, so more slowly: operation not permitted\n"


def test_running_out_of_memory_is_not_taken_for_that(step, monkeypatch):
    def full(graph, stream):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "graph", full)
    with pytest.raises(torch.OutOfMemoryError):
        train(step)
