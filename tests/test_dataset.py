"""Datasets in memory: the scaling of pixels, the checksum, and the images that the program draws."""

import pytest
import torch

from support.data.dataset import checksum, normalize
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


def test_shapes_are_the_same_every_time_and_each_is_drawn_once():
    data = draw_shapes(40, 20)
    assert checksum(data) == checksum(draw_shapes(40, 20))
    assert data.train_images.shape == (40, 3, 32, 32) and data.train_images.dtype == torch.uint8
    assert len(data.classes) == 10 and data.test_labels.bincount().tolist() == [2] * 10
    everything = torch.cat([data.train_images, data.test_images]).flatten(1)
    assert len(everything.unique(dim=0)) == 60  # so none of the test images is in training
