"""What the committed runs say: the arithmetic, the tables in the documents, and taking further runs in."""

import gains
import pytest
from helpers import ROOT  # noqa: F401
from PIL import Image

from support.run.history import Epoch


def history(*accuracies):
    return [Epoch(number, 0.5, 80.0, 1.0, accuracy, 2.0) for number, accuracy in enumerate(accuracies, 1)]


@pytest.mark.parametrize(
    "accuracies, expected",
    [
        ([50] * 10 + [70] * 9 + [80], 71),
        ([0] * 90 + [70] * 9 + [80], 71),
        ([50, 50, 70, 80], 75),
        ([50, 70, 80], 75),
        ([60], 60),
    ],
)
def test_the_measure_is_the_mean_of_the_last_epochs(accuracies, expected):
    assert gains.measure(history(*accuracies)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "differences, text, excluded",
    [
        ([], "-", False),
        ([1.234], "+1.23", False),
        ([1, 2, 3], "+2.00 ± 2.48", False),  # 4.303 of Student's t with two degrees of freedom, times 1, over root 3
        ([5.0, 5.0], "+5.00 ± 0.00", True),
        ([-0.001, -0.002], "+0.00 ± 0.01", False),
        ([1.0, -1.0] * 15, "+0.00 ± 0.38", False),  # thirty seeds: 2.045 times 1.017, over root 30
        ([1.0, 3.0] * 50, "+2.00 ± 0.20", True),  # a hundred: 1.960 times 1.005, over 10
    ],
)
def test_an_interval_is_student_s_over_seeds(differences, text, excluded):
    assert gains.interval(differences) == text
    assert gains.excludes_zero(differences) is excluded


def test_gains_are_drawn_over_steps(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(gains, "save", lambda figure, path: figures.append(figure))
    lines = [gains.Line("SE", "#0072B2", {100: [1.0, 3.0], 10: [-2.0]}), gains.Line("at scale 2", "#D55E00", {10: [1]})]
    gains.draw_gain_over_steps(tmp_path / "gain.png", [[gains.Panel("SE", lines), None]], "title", ["shapes"])
    panel, gap = figures[0].axes
    assert panel.lines[0].get_xydata().tolist() == [[10, -2], [100, 2]]
    assert panel.collections[0].get_datalim(panel.transData).ymax == pytest.approx(2 + 12.706)
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["SE", "at scale 2"]
    assert not gap.axison and not gap.lines
    monkeypatch.undo()
    gains.draw_gain_over_steps(tmp_path / "gain.png", [[gains.Panel("SE", lines)]], "title")
    with Image.open(tmp_path / "gain.png") as picture:
        assert picture.width == 1400
