"""Data sets in memory: the scaling of pixels, and the checksum that tells two of one name apart."""

import pytest
import torch

from support.dataset import fingerprint, normalize, printable
from support.shapes import draw_shapes


def test_pixels_are_scaled_to_minus_1_and_1():
    assert normalize(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([-1, -0.6, 1])


def test_every_pixel_and_label_counts_in_the_fingerprint():
    data = draw_shapes(20, 10)
    prints = {fingerprint(data)}
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        changed = getattr(data, field).clone()
        changed[(-1,) * changed.dim()] ^= 1
        prints.add(fingerprint(data._replace(**{field: changed})))
    assert len(prints) == 5 and all(name.startswith("drawn shapes (") for name in prints)
    assert fingerprint(draw_shapes(20, 10)) in prints


def test_names_that_are_no_text_become_printable():
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\N{REPLACEMENT CHARACTER}"
    assert printable("中文 é") == "中文 é"
