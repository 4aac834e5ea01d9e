"""The settings for an NVIDIA GPU, as far as they show without one."""

import pytest
import torch
from torch import nn

from support.run.gpu import choose_kernels, memory_format

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def kernels():
    """Puts the process's choice of kernels back."""
    before = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(before)


class Undetermined(nn.Conv2d):
    def forward(self, x):
        if torch.get_deterministic_debug_mode() == 2:
            raise RuntimeError("the_kernel does not have a deterministic implementation, but you set ...")
        return super().forward(x)


def test_deterministic_kernels_alone_where_there_are(kernels, capsys):
    model = nn.Conv2d(3, 1, 1)
    choose_kernels(CPU, model)
    assert torch.get_deterministic_debug_mode() == 2 and capsys.readouterr().out == ""
    assert model.weight.grad is None  # a copy is tried


def test_a_model_that_needs_another_kernel_is_told_of(kernels, capsys):
    model = Undetermined(3, 1, 1)
    choose_kernels(CPU, model)
    assert torch.get_deterministic_debug_mode() == 1 and model.weight.grad is None
    says = "A resumed run may differ in the last digits: the_kernel does not have a deterministic implementation\n"
    assert capsys.readouterr().out == says


def test_memory_order():
    layouts = [memory_format(device, precision) for device in (CPU, GPU) for precision in ("fp32", "bf16", "tf32")]
    last, contiguous = torch.channels_last, torch.contiguous_format
    assert layouts == [last, last, last, contiguous, last, contiguous]
