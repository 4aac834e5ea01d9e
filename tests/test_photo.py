"""`--photo`: a trained network's answer to a user's own photos."""

import shutil

import numpy as np
import pytest
import torch
from helpers import DRAWN, contents, load, run
from PIL import Image

from support.data.image_tree import read_pictures
from support.pictures import photo
from support.pictures.photo import draw_photos, squares

FACTS = {"classes": ["ant", "bee", "cow", "dog"], "data": "tiny tree"}


@pytest.fixture
def stripes(tmp_path):
    """A wide photo whose middle third is green, and the same lying on its side, turned by EXIF."""
    pixels = np.zeros((200, 600, 3), np.uint8)
    pixels[:, :200, 0] = pixels[:, 200:400, 1] = pixels[:, 400:, 2] = 255
    pixels[:100] //= 2  # the upper half is darker
    image, files = Image.fromarray(pixels), [tmp_path / "my stripes.png", tmp_path / "turned.png"]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(files[0])
    image.rotate(90, expand=True).save(files[1], exif=exif)
    return files


def test_a_photo_is_squeezed_as_in_training_and_turned_as_its_exif_says(stripes):
    for file in stripes:
        large, small = squares(file)
        assert large.shape == (3, 256, 256) and small.equal(read_pictures([file])[0])
        for row, brightness in ((8, 127), (24, 255)):
            assert small[:, row, [5, 16, 26]].equal(brightness * torch.eye(3, dtype=torch.uint8))
            assert large[:, 8 * row, [40, 128, 208]].equal(brightness * torch.eye(3, dtype=torch.uint8))


@pytest.mark.parametrize("script", DRAWN)
def test_the_answer_is_the_network_s(script, stripes, tmp_path, monkeypatch, capsys):
    figures = []
    monkeypatch.setattr(photo, "save", lambda figure, path: figures.append(figure))
    torch.manual_seed(0)
    model = load(script).build(4)
    draw_photos(model, FACTS, stripes, tmp_path / f"{script}.photo.png")
    with torch.no_grad():
        logits = model.eval()(torch.stack([squares(file)[1] for file in stripes]) / 127.5 - 1)
    for line, file, shares in zip(capsys.readouterr().out.splitlines(), stripes, logits.softmax(1), strict=True):
        best = [f"{FACTS['classes'][k]} {shares[k]:.1%}" for k in shares.argsort(descending=True)[:3]]
        assert line == f"{file.name}: {', '.join(best)}"
    if script == "CBAM-Attention":
        gates = model.features[6].channel.gate(model.features[:6](squares(stripes[0])[1][None] / 127.5 - 1))[0]
        panels = [axes for axes in figures[0].subfigs[0].axes if axes.get_xlim() == (0, 32)]
        heights = [bar.get_height() / -31 for bar in panels[4].patches]
        assert heights == pytest.approx(gates.tolist(), abs=1e-5)


def test_a_trained_run_answers_without_its_data(finished, stripes, tmp_path):
    plots = shutil.copytree(finished["Self-Attention"][1] / "plots", tmp_path / "plots")
    before = contents(plots)
    result = run("Self-Attention", "--data", "nowhere", "--photo", *stripes, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert [line.partition(": ")[0] for line in result.out.splitlines()] == ["my stripes.png", "turned.png", "Done"]
    picture = plots / "Self-Attention.photo.png"
    assert Image.open(picture).width == 1400
    assert contents(plots) == before | {picture.name: picture.read_bytes()}
