"""Two settings of the process that make training on a CPU faster."""

import ctypes
import sys

import torch


def tune_cpu(precision: str) -> None:
    """Keeps freed memory in the process, and picks the faster kernel for attention.

    Linux's C library would return the memory of freed tensors to the system and fetch it again, page by page,
    in every step: up to a quarter of a step's time. Other systems are left as they are.
    PyTorch's fused attention has a backward pass for bf16 that takes ten times as long as its plain one on
    maps as small as these (PyTorch 2.15). In fp32 it is the faster one.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never shrink the heap
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: tensors up to 32 MB come from the heap
        libc.mallopt(-8, 1)  # M_ARENA_MAX: one heap for the forward and the backward pass's threads
    torch.backends.cuda.enable_flash_sdp(precision == "fp32")  # despite its name, the CPU's too
