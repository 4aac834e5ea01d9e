"""The process's settings for training on a CPU."""

import pytest
import torch
from helpers import load

from support.run.cpu import tune_cpu


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_on_a_cpu_avoids_the_fused_kernel_in_bf16_alone(precision):
    block = load("Multi-Head Attention").MultiHeadAttention(64)
    try:
        tune_cpu(precision)
        with torch.profiler.profile() as profile, torch.autocast("cpu", enabled=precision == "bf16"):
            block(torch.randn(2, 64, 8, 8)).sum().backward()
    finally:
        tune_cpu("fp32")
    assert any("flash_attention" in event.key for event in profile.key_averages()) == (precision == "fp32")
