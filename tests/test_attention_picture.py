"""The attention pictures: what is drawn is what the blocks compute, in the right places."""

import numpy as np
import pytest
import torch
from helpers import contents, load, make_tree, run
from matplotlib.patches import Polygon, Rectangle
from torch import nn

from common import CNN, load_data
from support.data.dataset import normalize
from support.pictures.attention import corners, find_blocks
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
    """The panels of a model's picture that lie over an image's 32x32 pixels, section by section, column by column."""
    areas = draw_figure(model, data, "name", "tree").subfigs
    return [[axes for axes in area.axes if axes.images and axes.get_xlim() == (0, 32)] for area in areas]


def before(model: nn.Module, position: int, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.features[:position](normalize(images))


def shown(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_the_drawn_attention_is_the_block_s_and_its_query_is_outlined(data):
    model = moved("Self-Attention")
    [section] = panels(model, data)  # three rows each of: image, 8x8 from A and B, 4x4 from A and B
    image, *maps = section[1::3]  # the second class
    for layer, side, drawn in ((6, 8, maps[:2]), (10, 4, maps[2:])):
        weights = model.features[layer].weights(before(model, layer, data.test_images[[3]]))[0].detach()
        for axes, (y, x) in zip(drawn, [(18, 18), (10, 26)], strict=True):
            cell = 32 // side
            row, column = y // cell, x // cell
            expected = (side**2 * weights[side * row + column].reshape(side, side)).clamp(1 / 16, 16)
            np.testing.assert_allclose(shown(axes), expected, rtol=1e-4)
            [outline] = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
            assert outline.get_bbox().bounds == (cell * column, cell * row, cell, cell)
    assert {text.get_text(): text.get_position() for text in image.texts} == {"A": (18, 18), "B": (26, 10)}

    model = moved("Multi-Head Attention")
    [section] = panels(model, data)
    weights = model.features[6].weights(before(model, 6, data.test_images[[0]]))[0].detach()  # (heads, 64, 64)
    for axes, expected in zip(section[3:15:3], 64 * weights[:, 8 * 4 + 4].reshape(4, 8, 8), strict=True):
        np.testing.assert_allclose(shown(axes), expected.clamp(1 / 16, 16), rtol=1e-4)


class Half(nn.Module):
    """Half of the positions attend to all alike, the other half to themselves alone."""

    def weights(self, x):
        n, _, h, w = x.shape
        positions = h * w
        uniform = torch.full((positions // 2, positions), 1 / positions)
        return torch.cat([uniform, torch.eye(positions)[positions // 2 :]]).expand(n, -1, -1)

    def forward(self, x):
        return x


def test_the_number_of_positions_of_known_attention(data):
    model = CNN((8, 8), attention=lambda _: Half(), num_classes=3).eval()
    title = draw_figure(model, data, "Mine", "tree").subfigs[0].get_suptitle()
    assert title == "Mine: on average, a position attends to 32 of 64 positions (8x8\N{NO-BREAK SPACE}map)"


def test_the_drawn_gates_are_the_block_s(data):
    model = moved("CBAM-Attention")
    figure = draw_figure(model, data, "name", "tree")
    block, x = model.features[6], before(model, 6, data.test_images)
    positions = panels(model, data)[1][1::3]  # below three photographs
    expected = block.spatial.gate(block.channel(x))[::3, 0].detach()
    np.testing.assert_allclose(np.stack(list(map(shown, positions))), expected, rtol=1e-4)
    heat_map = figure.subfigs[0].axes[0]
    means = block.channel.gate(x).reshape(3, 3, -1).mean(1).detach()
    difference = (means - means.mean(0)).numpy()
    assert shown(heat_map).shape == (3, 20)
    rows = [data.classes.index(label.get_text()) for label in heat_map.get_yticklabels()]
    for column in shown(heat_map).T:
        assert np.isclose(difference[rows], column[:, None], atol=1e-5).all(0).any()


def test_the_drawn_frame_is_the_block_s(data):
    model = moved("STN-Attention")
    [[image, seen, *_]] = panels(model, data)
    stn, x = model.features[0], normalize(data.test_images[[0]])
    [frame] = [patch for patch in image.patches if isinstance(patch, Polygon)]
    for k, corner in enumerate([(-1, -1), (1, -1), (1, 1), (-1, 1)]):
        place = (stn.theta(x)[0].detach() @ torch.tensor([*corner, 1.0])).tolist()
        assert frame.get_xy()[k] == pytest.approx([16 * (value + 1) for value in place], abs=1e-4)
    assert corners(torch.eye(2, 3)[None])[0].tolist() == [[0, 0], [32, 0], [32, 32], [0, 32]]
    expected = 127.5 * (stn(x)[0].permute(1, 2, 0).detach() + 1)
    np.testing.assert_allclose(shown(seen), expected, atol=0.51)


class Own(nn.Module):
    """A user's block whose `method` returns what `answer` makes of x."""

    def __init__(self, method, answer):
        super().__init__()
        setattr(self, method, answer)

    def forward(self, x):
        return x


UNFIT = {
    "a gate for each element": ("gate", lambda x: x, "returns (2, 8, 8, 8); wanted for (N, C, H, W): (N, C), (N, C, 1"),
    "a tuple": ("gate", lambda x: (x, x), "returns a tuple; wanted"),
    "pooled keys": ("weights", lambda x: torch.ones(len(x), 64, 16) / 16, "returns (2, 64, 16); wanted"),
    "scores": ("weights", lambda x: torch.ones(len(x), 64, 64), "with rows that sum to 1"),
    "an error": ("theta", lambda x: 1 / len(x[:0]), "raises ZeroDivisionError (division by zero)"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_own_block_that_does_not_fit_gets_one_line_and_no_section(case, data):
    method, answer, reason = UNFIT[case]
    model = CNN((8, 8, 8), attention=lambda _: Own(method, answer), num_classes=3).train()
    _, lines = find_blocks(model, data.test_images)
    assert lines[0].startswith(f"Own.{method} is not drawn: ") and reason in lines[0] and "\n" not in lines[0]
    assert model.training and not any(module._forward_hooks for module in model.modules())
    assert "Grad-CAM" in draw_figure(model, data, "Mine", "tree").subfigs[0].get_suptitle()


def test_look_draws_again_and_trains_nothing(finished, tree):
    plots = finished["CBAM-Attention"][1] / "plots"
    before = contents(plots)
    for lost in ("CBAM-Attention.attention.png", "CBAM-Attention.json"):
        (plots / lost).unlink()
    result = run("CBAM-Attention", "--data", tree, "--look", cwd=plots.parent, attention=True)
    assert (result.status, result.err) == (0, "") and "Epoch [" not in result.out
    assert contents(plots) == before
