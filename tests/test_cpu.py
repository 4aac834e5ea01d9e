"""The process's settings for training on a CPU."""

import pytest
import torch
from helpers import load

from support.run.cpu import tuned_cpu


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_on_a_cpu_avoids_the_fused_kernel_in_bf16_alone(precision, monkeypatch):
    monkeypatch.setattr("sys.platform", "another")  # the C library's settings would stay
    block, before = load("Multi-Head Attention").MultiHeadAttention(64), torch.backends.cuda.flash_sdp_enabled()
    autocast = torch.autocast("cpu", enabled=precision == "bf16")
    with tuned_cpu(torch.device("cpu"), precision), torch.profiler.profile() as profile, autocast:
        block(torch.randn(2, 64, 8, 8)).sum().backward()
    assert any("flash_attention" in event.key for event in profile.key_averages()) == (precision == "fp32")
    assert torch.backends.cuda.flash_sdp_enabled() == before
