"""A dataset in memory: images, labels, names, checksum, and the scaling of pixels."""

import zlib
from typing import NamedTuple

import torch
from torch import Tensor


class Data(NamedTuple):
    """A dataset in memory: images (N, 3, 32, 32) uint8, channels last, labels (N,) int64 from 0 to K - 1."""

    name: str
    classes: list[str]  # K names
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The last four fields."""
        return self[2:]

    def on(self, device: torch.device, memory_format: torch.memory_format) -> tuple[Tensor, ...]:
        """The last four fields on a device, the images in this order in memory."""
        tensors = [tensor.to(device) for tensor in self.tensors]
        return tuple(t.contiguous(memory_format=memory_format) if t.ndim == 4 else t for t in tensors)


def checksum(data: Data) -> str:
    """Of the images and labels: `0123abcd`."""
    crc = 0
    for tensor in data.tensors:
        crc = zlib.crc32(tensor.contiguous().numpy(), crc)
    return f"{crc:08x}"


def printable(name: str) -> str:
    """A file's name as text; bytes that are not UTF-8, as in old archives, become question marks."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def normalize(images: Tensor) -> Tensor:
    """uint8 from 0 to 255 to float32 from -1 to 1."""
    return images.float().div_(127.5).sub_(1)
