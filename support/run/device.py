"""Settings of the process that make training faster on a CPU, and exact on an NVIDIA GPU."""

import copy
import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn


def memory_order(device: torch.device, precision: str) -> torch.memory_format:
    """The order of images and weights in memory that trains fastest.

    Channels last, except in fp32 and TF32 on a GPU, where the deterministic kernel for the gradient of the first
    convolution's weights takes ten times as long in that order (cuDNN 9.19 on an H200).
    """
    contiguous = device.type == "cuda" and precision != "bf16"
    return torch.contiguous_format if contiguous else torch.channels_last


def tuned(model: nn.Module, device: torch.device, precision: str) -> AbstractContextManager:
    """Sets the process up for training this model, which is on this device."""
    settings = {"cpu": fast_cpu, "cuda": exact_gpu}.get(device.type)
    return settings(model, device, precision) if settings else nullcontext()


@contextmanager
def fast_cpu(model: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """Keeps freed memory in the process permanently, and picks the faster kernel for attention.

    Linux's C library would return the memory of freed tensors to the system and fetch it again, page by page,
    in every step: up to a quarter of a step's time. Other systems and a notebook's kernel are left as they are.
    PyTorch's fused attention has a backward pass for bf16 that takes ten times as long as its plain one on
    maps as small as these (PyTorch 2.15). In fp32 it is the faster one.
    """
    if sys.platform == "linux" and "ipykernel" not in sys.modules and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never shrink the heap
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: tensors up to 32 MB come from the heap
        libc.mallopt(-8, 1)  # M_ARENA_MAX: one heap for the forward and the backward pass's threads
    before = torch.backends.cuda.flash_sdp_enabled()  # despite its name, the CPU's too
    torch.backends.cuda.enable_flash_sdp(precision == "fp32")
    try:
        yield
    finally:
        torch.backends.cuda.enable_flash_sdp(before)


@contextmanager
def exact_gpu(model: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """Computes with deterministic kernels, in IEEE single precision or in TF32.

    By default cuDNN rounds what convolutions multiply to TF32, with 10 bits of 23, while linear layers stay in fp32.
    """
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
            choose_kernels(model, device)
            yield
    finally:
        conv.fp32_precision, matmul.fp32_precision = before[:2]
        torch.set_deterministic_debug_mode(before[2])
        torch.utils.deterministic.fill_uninitialized_memory = filled


def choose_kernels(model: nn.Module, device: torch.device) -> None:
    """Allows deterministic kernels alone; where the model needs one that PyTorch lacks, prefers them and says so."""
    torch.use_deterministic_algorithms(True)
    try:
        copy.deepcopy(model).train()(torch.zeros(2, 3, 32, 32, device=device)).sum().backward()
    except Exception as error:  # also of a model that cannot be copied or tried like this
        torch.use_deterministic_algorithms(True, warn_only=True)
        reason = str(error).partition("\n")[0].partition(",")[0]
        print(f"A resumed run may differ in the last digits: {reason}")
