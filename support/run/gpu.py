"""Settings for training on an NVIDIA GPU: fp32 that is fp32, and the same result every time."""

import copy
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def memory_format(device: torch.device, precision: str) -> torch.memory_format:
    """The order of images and weights in memory that trains fastest.

    Channels last, except in fp32 and TF32 on a GPU, where the deterministic kernel for the gradient of the first
    convolution's weights takes ten times as long in that order (cuDNN 9.19 on an H200).
    """
    contiguous = device.type == "cuda" and precision != "bf16"
    return torch.contiguous_format if contiguous else torch.channels_last


@contextmanager
def tuned_gpu(device: torch.device, precision: str, model: nn.Module) -> Iterator[None]:
    """Where the device is an NVIDIA GPU: computes with deterministic kernels, and in IEEE single precision or in TF32.

    By default cuDNN rounds what convolutions multiply to TF32, with 10 bits of 23, while linear layers stay in fp32.
    """
    if device.type != "cuda":
        yield
        return
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision, torch.get_deterministic_debug_mode()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    conv.fp32_precision = matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    torch.utils.deterministic.fill_uninitialized_memory = False  # every kernel here writes all of its result
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS is not deterministic
    try:
        with torch.cuda.device(device), warnings.catch_warnings():
            # `choose_kernels` says it instead
            warnings.filterwarnings("ignore", ".* does not have a deterministic implementation")
            choose_kernels(device, model)
            yield
    finally:
        conv.fp32_precision, matmul.fp32_precision = before[:2]
        torch.set_deterministic_debug_mode(before[2])
        torch.utils.deterministic.fill_uninitialized_memory = filled


def choose_kernels(device: torch.device, model: nn.Module) -> None:
    """Allows deterministic kernels alone; where the model needs one that PyTorch lacks, prefers them and says so."""
    torch.use_deterministic_algorithms(True)
    try:
        copy.deepcopy(model).train()(torch.zeros(2, 3, 32, 32, device=device)).sum().backward()
    except Exception as error:  # also of a model that cannot be copied or tried like this
        torch.use_deterministic_algorithms(True, warn_only=True)
        reason = str(error).partition(",")[0]
        print(f"A resumed run may differ in the last digits: {reason}")
