"""Data sets in memory: the scaling of pixels, and the checksum that tells two of one name apart."""

import pytest
import torch

from support.data.dataset import checksum, normalize, printable
from support.data.shapes import draw_shapes


def test_pixels_are_scaled_to_minus_1_and_1():
    assert normalize(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([-1, -0.6, 1])


def test_every_pixel_and_label_counts_in_the_checksum():
    data = draw_shapes(20, 10)
    sums = {checksum(data)}
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        changed = getattr(data, field).clone()
        changed[(-1,) * changed.dim()] ^= 1
        sums.add(checksum(data._replace(**{field: changed})))
    assert len(sums) == 5
    assert checksum(draw_shapes(20, 10)) in sums


def test_names_that_are_no_text_become_printable():
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\N{REPLACEMENT CHARACTER}"
    assert printable("中文 é") == "中文 é"
