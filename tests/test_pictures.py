"""The attention pictures: drawn by every script, true to the blocks, aligned with the images."""

import numpy as np
import pytest
import torch
from helpers import ROOT, SCRIPTS, load, make_tree, run
from PIL import Image
from torch import nn

from common import load_data, normalize
from pictures import AttentionPicture

ROWS = {  # rows of one panel an image, and heat maps
    "CNN": (2, 0),
    "Self-Attention": (5, 0),
    "Multi-Head Attention": (9, 0),
    "SE-Attention": (1, 2),
    "ECA-Attention": (1, 2),
    "CBAM-Attention": (3, 2),
    "STN-Attention": (3, 0),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_data(str(make_tree(tmp_path_factory.mktemp("data") / "tree", train=1, test=3)))


def drawn(script: str, data) -> tuple[AttentionPicture, list]:
    """A script's picture of a fresh network whose blocks have left their starting point; and its panels."""
    torch.manual_seed(0)
    module = load(script)
    network = module.build(len(data.classes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    picture = AttentionPicture(network, data)
    figure = picture.figure("title", module.look(picture))
    return picture, [axes for area in figure.subfigs for axes in area.axes if axes.images]


@pytest.mark.parametrize("script", SCRIPTS)
def test_panels(script, data):
    _, panels = drawn(script, data)
    rows, heat_maps = ROWS[script]
    assert sum(axes.get_xlim() == (0, 32) for axes in panels) == 3 * rows  # three classes
    assert sum(axes.get_xlim() != (0, 32) for axes in panels) == heat_maps


def overlay(panels: list, row: int, i: int) -> np.ndarray:
    """The map on image i in a row of panels."""
    image = panels[3 * row + i].images[-1]
    assert list(image.get_extent()) == [0, 32, 32, 0]
    return np.asarray(image.get_array())


def before(network: nn.Module, position: int, x: torch.Tensor) -> torch.Tensor:
    """What reaches the layer at a position of the trunk."""
    with torch.no_grad():
        return network.features[:position](normalize(x))


def test_the_drawn_attention_is_the_block_s(data):
    picture, panels = drawn("Self-Attention", data)
    block = picture.network.features[10]  # after stage 3: 4x4
    weights = block.weights(before(picture.network, 10, data.test_images[[6]]))  # the first of class 2
    for row, (y, x) in ((3, (16, 16)), (4, (8, 24))):
        expected = weights[0, y // 8 * 4 + x // 8].reshape(4, 4) * 16
        np.testing.assert_allclose(overlay(panels, row, 2), expected.detach(), rtol=1e-4)

    picture, panels = drawn("Multi-Head Attention", data)
    block = picture.network.features[6]  # after stage 2: 8x8
    weights = block.weights(before(picture.network, 6, data.test_images[[3]]))
    expected = weights[0, 2, 4 * 8 + 4].reshape(8, 8) * 64  # head 3
    np.testing.assert_allclose(overlay(panels, 3, 1), expected.detach(), rtol=1e-4)


def test_the_drawn_gates_are_the_block_s(data):
    picture, panels = drawn("CBAM-Attention", data)
    block = picture.network.features[6]
    x = before(picture.network, 6, data.test_images)
    channel = block.channel.gate(x)
    np.testing.assert_allclose(
        overlay(panels, 1, 0), block.spatial.gate(block.channel(x))[0, 0].detach(), rtol=1e-4
    )
    heat_map = np.asarray(panels[9].images[0].get_array())
    means = channel.reshape(3, 3, -1).mean(1)  # three images of each class
    np.testing.assert_allclose(heat_map, means[:, means.mean(0).argsort()].detach(), rtol=1e-4)


def test_the_drawn_frame_is_the_block_s(data):
    picture, panels = drawn("STN-Attention", data)
    theta = picture.network.features[0].theta(normalize(data.test_images[[0]]))[0].detach()
    [line] = panels[3].lines
    for k, corner in enumerate([(-1, -1), (1, -1), (1, 1), (-1, 1)]):
        x, y = (theta @ torch.tensor([*corner, 1.0])).tolist()
        assert line.get_xydata()[k] == pytest.approx([16 * (x + 1), 16 * (y + 1)], abs=1e-4)


class LooksAt(nn.Module):
    """Attends from everywhere to one cell."""

    def __init__(self, row: int, column: int):
        super().__init__()
        self.cell, self.gamma = (row, column), nn.Parameter(torch.ones(()))

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        weights = torch.zeros(n, h * w, h * w)
        weights[:, :, self.cell[0] * w + self.cell[1]] = 1
        return weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(("stages", "side"), [(2, 8), (3, 4)])
def test_a_known_cell_lights_its_own_pixels(stages, side, data):
    """Rendered: the brightest pixels of the panel are those of the cell, in its third of the image."""
    from common import CNN

    network = CNN((8,) * stages, attention=lambda _: LooksAt(1, 2), classes=3)
    picture = AttentionPicture(network, data)
    where, block = picture.stages(LooksAt)[-1]
    assert where == f"after stage {stages}"
    picture.attention(where, block, [(16, 16)])
    figure = picture.figure("", "")
    panel = figure.subfigs[1].axes[0]
    assert panel.images[-1].get_array().argmax() == side + 2
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba()).astype(float)
    x0, y0, x1, y1 = panel.get_window_extent().extents  # from the bottom
    crop = pixels[round(len(pixels) - y1) : round(len(pixels) - y0), round(x0) : round(x1)]
    yellow = crop[:, :, 1] - crop[:, :, 2]  # the top of the colour scale: green without blue
    rows, columns = np.nonzero(yellow > yellow.max() - 40)
    centre = np.array([rows.mean() / crop.shape[0], columns.mean() / crop.shape[1]])
    np.testing.assert_allclose(centre, [1.5 / side, 2.5 / side], atol=0.02)


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
    picture = AttentionPicture(Linear(), data)
    network = picture.network
    picture.grad_cam(network.features[-1])
    panels = picture.figure("", "").subfigs[1].axes
    maps = network.features(normalize(picture.images))
    for k in range(3):
        cam = torch.einsum("c,chw->hw", network.w[k], maps[k]).relu().detach()
        np.testing.assert_allclose(panels[k].images[-1].get_array(), cam / cam.max(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("script", SCRIPTS)
def test_look_draws_again_and_trains_nothing(script, finished, tree):
    plots = finished[script][1] / "plots"
    with Image.open(plots / f"{script}-attention.png") as picture:
        picture.load()
        assert picture.width == 1800 and picture.info["Source"] == "tiny tree"
    before = {file.name: file.read_bytes() for file in plots.iterdir()}
    (plots / f"{script}-attention.png").unlink()
    result = run(script, "--data", tree, "--look", cwd=plots.parent, attention=True)
    assert (result.status, result.err) == (0, "") and "Epoch [" not in result.out
    assert {file.name: file.read_bytes() for file in plots.iterdir()} == before


def test_nothing_to_look_at(tree, tmp_path):
    result = run("SE-Attention", "--data", tree, "--look", cwd=tmp_path)
    assert result.status == 2 and "train first" in result.err and result.err.count("\n") == 1


def test_a_script_without_its_look_still_trains(tree, tmp_path):
    source = (ROOT / "SE-Attention.py").read_text(encoding="utf-8")
    start, end = source.index("def look("), source.index("if __name__")
    copy = tmp_path / "Bare.py"
    copy.write_text(
        (source[:start] + source[end:]).replace("run(build, look)", "run(build)"), encoding="utf-8"
    )
    assert run(str(copy), "--data", tree, "--epochs", 1, cwd=tmp_path, attention=True).status == 0
    assert (tmp_path / "plots" / "Bare.png").exists()
    assert not (tmp_path / "plots" / "Bare-attention.png").exists()
    result = run(str(copy), "--data", tree, "--look", cwd=tmp_path)
    assert result.status == 2 and "no function look" in result.err


def note_drawings() -> None:
    """Writes a line for each drawing of a run's curves: the epochs that it shows."""
    import pictures

    plot_run = pictures.plot_run

    def noted(path, title, data, history, epochs):
        plot_run(path, title, data, history, epochs)
        with open("drawings.txt", "a", encoding="utf-8") as file:
            file.write(f"{len(history)}\n")

    pictures.plot_run = noted


def test_short_epochs_are_not_drawn_one_by_one(tree, tmp_path):
    assert run("CNN", "--data", tree, "--epochs", 40, cwd=tmp_path, prepare=note_drawings).status == 0
    drawn = (tmp_path / "drawings.txt").read_text(encoding="utf-8").split()
    assert drawn[0] == "1" and drawn[-1] == "40" and len(drawn) < 20
