"""Images that the program draws."""

import torch

from support.data.shapes import draw_shapes


def test_shapes_are_the_same_every_time():
    first, second = draw_shapes(40, 20), draw_shapes(40, 20)
    assert first.train_images.equal(second.train_images) and first.test_images.equal(second.test_images)
    assert first.train_images.shape == (40, 3, 32, 32) and first.train_images.dtype == torch.uint8
    assert len(first.classes) == 10 and first.test_labels.bincount().tolist() == [2] * 10
    everything = torch.cat([first.train_images, first.test_images]).flatten(1)
    assert len(everything.unique(dim=0)) == 60  # none twice, so none of the test images is in training
