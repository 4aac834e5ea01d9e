"""Images that the program draws: a dataset for trying a script out without a download."""

import cmath
import math
import random

import numpy as np
import torch
from PIL import Image, ImageDraw

from support.data.dataset import Data


def draw_shapes(train: int = 5000, test: int = 1000) -> Data:
    """Ten classes of shapes of random position, size, rotation and colour, among clutter; always the same images."""

    def polygon(corners: int, *radii: float) -> list[complex]:
        return [cmath.rect(radii[k % len(radii)], math.tau * k / corners) for k in range(corners)]

    circle = polygon(24, 1)
    shapes = {  # outlines as complex numbers within the unit circle, so that a rotation is a multiplication
        "circle": circle,
        "ring": [*circle, 1, 0.55, *(0.55 * point for point in circle[::-1])],
        "semicircle": circle[:13],
        "triangle": polygon(3, 1),
        "square": polygon(4, 1),
        "pentagon": polygon(5, 1),
        "star": polygon(10, 1, 0.4),
        "cross": [1j**k * corner for k in range(4) for corner in (0.9 - 0.3j, 0.9 + 0.3j, 0.3 + 0.3j)],
        "bar": [0.95 + 0.3j, -0.95 + 0.3j, -0.95 - 0.3j, 0.95 - 0.3j],
        "arrow": [1, 0.1 + 0.8j, 0.1 + 0.25j, -0.9 + 0.25j, -0.9 - 0.25j, 0.1 - 0.25j, 0.1 - 0.8j],
    }
    rng = random.Random(0)
    size = 128  # drawn four times as large as needed, then averaged, for smooth edges

    def colour(darkest: int, lightest: int) -> tuple[int, ...]:
        return tuple(rng.randint(darkest, lightest) for _ in "RGB")

    def draw(outline: list[complex]) -> np.ndarray:
        image = Image.new("RGB", (size, size), colour(0, 130))
        pen = ImageDraw.Draw(image)
        for _ in range(8):
            pen.line([rng.randrange(size) for _ in range(4)], colour(0, 160), rng.randint(2, 12))
        radius = rng.uniform(0.2, 0.42) * size
        turn = cmath.rect(radius, rng.uniform(0, math.tau))
        centre = complex(rng.uniform(radius, size - radius), rng.uniform(radius, size - radius))
        points = [centre + turn * point for point in outline]
        pen.polygon([(point.real, point.imag) for point in points], colour(90, 255))
        return np.asarray(image.reduce(4))

    outlines = list(shapes.values())
    labels = torch.arange(train + test) % len(outlines)
    images = torch.from_numpy(np.stack([draw(outlines[label]) for label in labels])).permute(0, 3, 1, 2)
    return Data("drawn shapes", list(shapes), images[:train], labels[:train], images[train:], labels[train:])
