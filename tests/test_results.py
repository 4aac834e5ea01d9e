"""What the committed runs say: the arithmetic, the tables in the documents, and taking further runs in."""

import json
import shutil

import gains
import pytest
import results
from helpers import ROOT
from PIL import Image

from support.run.record import Epoch, write_csv


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


def test_the_documents_have_the_tables_of_the_committed_runs():
    documents = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("benchmarks/README.md", "README.md")}
    summary = results.summary()
    for table in results.tables():
        name = "README.md" if table == summary else "benchmarks/README.md"
        assert table in documents[name], f"{name} lacks this:\n{table}"


def test_the_committed_runs_are_whole():
    for task in (results.COPY, results.SHAPES):
        facts, runs = results.read_all_facts(task.name), results.read(task.name)
        assert {(network, seed) for network in runs for seed in runs[network]} == facts.keys()
        for (network, seed), of_run in facts.items():
            epochs = [epoch.epoch for epoch in runs[network][seed]]
            assert epochs == [*range(1, len(epochs) + 1)] and len(epochs) >= task.epochs
            assert {key: str(of_run[key]) for key in task.facts} == {key: str(task.facts[key]) for key in task.facts}
            assert (of_run["control"], 0) in facts or not of_run["control"]


def test_the_gallery_has_what_is_drawn_from_the_committed_runs(monkeypatch):
    drawn, grids = [], []
    monkeypatch.setattr(results, "plot_run", lambda path, csv, history, epochs, facts: drawn.append(path))
    monkeypatch.setattr(results, "plot_comparison", lambda path, runs, data: drawn.append(path) or grids.append(runs))
    monkeypatch.setattr(
        results, "draw_gain_over_steps", lambda path, *what: drawn.append(path) or grids.append(what[0])
    )
    results.draw_gallery()
    of_trained = (".attention", "on-drawn-images", "blocks")
    assert set(drawn) == {path for path in results.GALLERY.glob("*.png") if not path.stem.endswith(of_trained)}
    grid, compared = grids
    assert [panel.title for panel in grid[0]] == [panel.title for panel in grid[1]]
    se, scaled = grid[0][2].lines
    pair = "SE-Attention", "CNN-32-64-128"
    assert (grid[0][2].title, se.gains[1564]) == ("SE", results.gains(results.COPY, results.at(2), *pair))
    assert max(scaled.gains) == 23_460
    assert len(compared) == 7 and all(control for name, (_, control) in compared.items() if name != "CNN")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Committed runs in which SE is 1, 2 and 3 points above its control in the last ten epochs, by seed."""
    for name in ("shapes", "jpeg-copy"):
        facts = (results.RUNS / f"{name}-facts.csv").read_text(encoding="utf-8").splitlines()[0]
        (tmp_path / f"{name}-facts.csv").write_text(f"{facts}\n", encoding="utf-8")
        lines = ["network,seed,epoch,train_loss,train_acc,test_loss,test_acc,seconds"]
        for network, seed in [(network, seed) for network in ("CNN-32-64-128", "SE-Attention") for seed in range(3)]:
            accuracy = 70 + (seed + 1) * (network == "SE-Attention")
            lines += [f"{network},{seed},{e},0.5,80,1,{accuracy if e > 10 else 20},2" for e in range(1, 21)]
        (tmp_path / f"{name}.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    monkeypatch.setattr(results, "RUNS", tmp_path)
    results.read.cache_clear()
    yield tmp_path
    results.read.cache_clear()


def test_gains_are_paired_by_seed_and_unfinished_runs_left_out(runs):
    pair = "SE-Attention", "CNN-32-64-128"
    assert results.gains(results.SHAPES, results.measure, *pair) == [1, 2, 3]
    assert results.gains(results.SHAPES, results.at(1), *pair) == [0, 0, 0]
    assert results.gains(results.COPY, results.measure, *pair) == []  # twenty epochs of thirty


SHAPES = {
    "script": "SE-Attention",
    "seed": 3,
    "parameters": 5,
    "control": "CNN-32-64-128-shapes",
} | results.SHAPES.facts


def sweep(folder, where="seed3", accuracies=(70.0,) * 20, **facts):
    """A sweep's folder with a run."""
    (folder / where).mkdir(parents=True)
    write_csv(folder / where / "SE-Attention-shapes.csv", history(*accuracies))
    (folder / where / "SE-Attention-shapes.json").write_text(json.dumps(SHAPES | facts), encoding="utf-8")
    return folder


def test_a_finished_run_is_taken_in_once(runs, tmp_path, capsys):
    folder = sweep(tmp_path / "sweep", processor="Xeon, 2.5 GHz")
    results.add_all(folder)
    written = (runs / "shapes.csv").read_text(encoding="utf-8")
    assert "SE-Attention,3,20,0.500000,80.000,1.000000,70.000,2.00\n" in written
    assert [run[-1].test_acc for run in results.finished(results.SHAPES, "SE-Attention").values()] == [71, 72, 73, 70]
    facts = results.read_all_facts("shapes")["SE-Attention", 3]
    assert (facts["parameters"], facts["control"], facts["processor"]) == (5, "CNN-32-64-128", "Xeon, 2.5 GHz")
    results.add_all(folder)
    assert (runs / "shapes.csv").read_text(encoding="utf-8") == written
    assert "was there already" in capsys.readouterr().out
    shutil.rmtree(folder)
    results.add_all(sweep(folder, accuracies=(70.0,) * 21))  # the same run, continued
    assert len(results.read("shapes")["SE-Attention"][3]) == 21 and len(results.read_all_facts("shapes")) == 1


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"checksum": "0"}, "checksum 0"),
        ({"lr": 0.1}, "lr 0.1"),
        ({"script": "Mine"}, "is Mine"),
        ({"accuracies": (70.0,) * 19}, "19 of 20 epochs"),
        ({"where": "seed1"}, "with seed 3"),
        ({"where": "seed1", "seed": 1}, "is there already, with other numbers"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_in_a_line(wrong, said, runs, tmp_path, capsys):
    before = (runs / "shapes.csv").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        results.add_all(sweep(tmp_path / "sweep", **wrong))
    error = capsys.readouterr().err
    assert said in error and "SE-Attention-shapes.json" in error and error.count("\n") == 1
    assert (runs / "shapes.csv").read_text(encoding="utf-8") == before
