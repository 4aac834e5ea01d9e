"""The attention pictures: what is drawn is what the blocks compute, in the right places."""

import numpy as np
import pytest
import torch
from helpers import ROOT, load, make_tree, run
from matplotlib.patches import Polygon, Rectangle
from PIL import Image
from torch import nn

from common import CNN, load_data
from support.data.dataset import normalize
from support.pictures.attention_numbers import corners, find_probes, grad_cam, probe, weights
from support.pictures.attention_picture import draw_figure


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_data(str(make_tree(tmp_path_factory.mktemp("data") / "tree", train=1, test=3)))


def moved(script: str) -> nn.Module:
    """A script's network whose blocks have left their starting point."""
    torch.manual_seed(0)
    model = load(script).build(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def panels(model, data) -> list:
    """The panels of a model's picture that lie over an image's 32x32 pixels, section by section."""
    areas = draw_figure(model, data, "name", "tree").subfigs
    return [[axes for axes in area.axes if axes.images and axes.get_xlim() == (0, 32)] for area in areas[1:-1:2]]


def before(model: nn.Module, position: int, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.features[:position](normalize(images))


@pytest.mark.parametrize(
    ("script", "kinds"),
    [
        ("CNN", []),
        ("Self-Attention", ["weights"] * 2),
        ("Multi-Head Attention", ["weights"] * 2),
        ("SE-Attention", ["channels"] * 2),
        ("ECA-Attention", ["channels"] * 2),
        ("CBAM-Attention", ["channels", "positions"] * 2),
        ("STN-Attention", ["theta"]),
    ],
)
def test_blocks_are_found_by_their_methods(script, kinds, data):
    probes = find_probes(moved(script), data.test_images)
    assert [found.kind for found in probes] == kinds
    if len(probes) > 1:
        assert [probes[0].where, probes[-1].where] == ["8x8\N{NO-BREAK SPACE}map", "4x4\N{NO-BREAK SPACE}map"]


def test_the_drawn_attention_is_the_block_s_and_its_query_is_outlined(data):
    model = moved("Self-Attention")
    [section] = panels(model, data)
    image, *maps = section[5:10]  # the second class: 8x8 from A and B, 4x4 from A and B
    for layer, side, drawn in ((6, 8, maps[:2]), (10, 4, maps[2:])):
        weights = model.features[layer].weights(before(model, layer, data.test_images[[3]]))[0].detach()
        for axes, (y, x) in zip(drawn, [(18, 18), (10, 26)], strict=True):
            cell = 32 // side
            row, column = y // cell, x // cell
            expected = (side**2 * weights[side * row + column].reshape(side, side)).clamp(1 / 16, 16)
            np.testing.assert_allclose(axes.images[0].get_array(), expected, rtol=1e-4)
            [outline] = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
            assert outline.get_bbox().bounds == (cell * column, cell * row, cell, cell)
    assert {text.get_text(): text.get_position() for text in image.texts} == {"A": (18, 18), "B": (26, 10)}


def test_the_drawn_heads_are_the_block_s(data):
    model = moved("Multi-Head Attention")
    [section] = panels(model, data)
    weights = model.features[6].weights(before(model, 6, data.test_images[[0]]))[0].detach()  # (heads, 64, 64)
    for axes, expected in zip(section[1:5], 64 * weights[:, 8 * 4 + 4].reshape(4, 8, 8), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), expected.clamp(1 / 16, 16), rtol=1e-4)


class Uniform(nn.Module):
    """Attends to all positions alike, and adds half of its input."""

    def weights(self, x):
        n, _, h, w = x.shape
        return torch.full((n, h * w, h * w), 1 / (h * w))

    def forward(self, x):
        return 1.5 * x


class ItselfOnly(Uniform):
    def weights(self, x):
        n, _, h, w = x.shape
        return torch.eye(h * w).expand(n, -1, -1)


@pytest.mark.parametrize(("block", "positions", "distance"), [(Uniform, 64, 0), (ItselfOnly, 1, 1)])
def test_figures_of_known_attention(block, positions, distance, data):
    model = CNN((8, 8), attention=lambda _: block(), num_classes=3).eval()
    [found] = find_probes(model, data.test_images)
    measured = weights(model, found, data, torch.tensor([0]))
    assert measured.spread.tolist() == pytest.approx([positions], rel=1e-3)
    assert (measured.change, measured.distance) == (pytest.approx(0.5), pytest.approx(distance, abs=1e-5))
    figure = draw_figure(model, data, "Mine", "tree")  # a block of the user's own gets its picture
    [title, _] = figure.subfigs[0].texts
    reach = f"{positions} of 64 positions (8x8\N{NO-BREAK SPACE}map)"
    assert title.get_text() == f"Mine: each position looks at {reach} on average"


def test_the_drawn_gates_are_the_block_s(data):
    model = moved("CBAM-Attention")
    figure = draw_figure(model, data, "name", "tree")
    block, x = model.features[6], before(model, 6, data.test_images)
    positions = panels(model, data)[1][3:6]  # below three photographs
    expected = block.spatial.gate(block.channel(x))[::3, 0].detach()
    np.testing.assert_allclose(np.stack([axes.images[0].get_array() for axes in positions]), expected, rtol=1e-4)
    heat_map = figure.subfigs[1].axes[0]
    means = block.channel.gate(x).reshape(3, 3, -1).mean(1).detach()
    difference = (means - means.mean(0)).numpy()
    shown = np.asarray(heat_map.images[0].get_array())
    assert shown.shape == (3, 20)
    rows = [data.classes.index(label.get_text()) for label in heat_map.get_yticklabels()]
    for column in shown.T:
        assert np.isclose(difference[rows], column[:, None], atol=1e-5).all(0).any()


def test_the_drawn_frame_is_the_block_s(data):
    model = moved("STN-Attention")
    [section] = panels(model, data)
    theta = model.features[0].theta(normalize(data.test_images[[0]]))[0].detach()
    [frame] = [patch for patch in section[0].patches if isinstance(patch, Polygon)]
    for k, corner in enumerate([(-1, -1), (1, -1), (1, 1), (-1, 1)]):
        x, y = (theta @ torch.tensor([*corner, 1.0])).tolist()
        assert frame.get_xy()[k] == pytest.approx([16 * (x + 1), 16 * (y + 1)], abs=1e-4)
    assert corners(torch.eye(2, 3)[None])[0].tolist() == [[0, 0], [32, 0], [32, 32], [0, 32]]


def test_grad_cam_is_its_formula(data):
    """On a network of known gradients: the score of class k sums w[k, c] times channel c's map."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 5, 8, stride=8), nn.Softplus())
            self.w = nn.Parameter(torch.rand(3, 5) - 0.3)

        def forward(self, x):
            return self.features(x).sum((2, 3)) @ self.w.T

    torch.manual_seed(0)
    model, images = Linear(), data.test_images[::3]
    cams, maps = grad_cam(model, images, torch.arange(3)).maps, model.features(normalize(images))
    for k in range(3):
        cam = torch.einsum("c,chw->hw", model.w[k], maps[k]).relu().detach()
        torch.testing.assert_close(cams[k], cam / cam.max(), rtol=1e-4, atol=1e-6)


def test_a_probe_sees_what_reaches_the_block_and_what_leaves_it(data):
    model = moved("SE-Attention")
    for sees, layers in ((lambda x, y: x, 6), (lambda x, y: y, 7)):
        seen = probe(model, model.features[6], sees, data.test_images)
        torch.testing.assert_close(seen, before(model, layers, data.test_images))


@pytest.mark.parametrize("script", ["CNN", "Multi-Head Attention", "CBAM-Attention", "STN-Attention"])
def test_look_draws_again_and_trains_nothing(script, finished, tree):
    """One script for each kind of attention."""
    plots = finished[script][1] / "plots"
    with Image.open(plots / f"{script}.attention.png") as picture:
        picture.load()
        assert picture.width == 1400
    before = {file.name: file.read_bytes() for file in plots.iterdir()}
    (plots / f"{script}.attention.png").unlink()
    (plots / f"{script}.json").unlink()  # as in a folder from before it was kept
    result = run(script, "--data", tree, "--look", cwd=plots.parent, attention=True)
    assert (result.status, result.err) == (0, "") and "Epoch [" not in result.out
    assert {file.name: file.read_bytes() for file in plots.iterdir()} == before


def test_nothing_to_look_at(tree, tmp_path):
    result = run("SE-Attention", "--data", tree, "--look", cwd=tmp_path)
    assert result.status == 2 and "train first" in result.err and result.err.count("\n") == 1


def test_names_that_are_no_plain_text(tmp_path):
    """Signs of mathematics, and letters that the machine's fonts may lack."""
    folder = make_tree(tmp_path / "prices", classes=("cash $5 to $10", "汉字", "ok"), train=4, test=2)
    result = run(str(ROOT / "SE-Attention.py"), "--data", folder, "--epochs", 1, cwd=tmp_path, attention=True)
    assert (result.status, result.err) == (0, "") and "font" not in result.out
