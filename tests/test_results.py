"""What the committed runs say: the arithmetic, the pictures, and taking further runs in."""

import json

import gains
import pytest
import results

from support.run.record import Epoch, write_csv

PAIR = "SE-Attention", "CNN-32-64-128"


def history(*accuracies):
    return [Epoch(number, 0.5, 80.0, 1.0, accuracy, 2.0) for number, accuracy in enumerate(accuracies, 1)]


@pytest.mark.parametrize(
    "accuracies, expected",
    [([50] * 10 + [70] * 9 + [80], 71), ([0] * 90 + [70] * 9 + [80], 71), ([50, 70, 80], 75), ([60], 60)],
)
def test_the_measure_is_the_mean_of_the_last_ten_epochs_but_at_most_half(accuracies, expected):
    assert gains.measure(history(*accuracies)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "differences, text, excluded",
    [
        ([], "-", False),
        ([1, 2, 3], "+2.00 ± 2.48", False),  # 4.303 of Student's t with two degrees of freedom, times 1, over root 3
        ([5.0, 5.0], "+5.00 ± 0.00", True),
        ([-0.001, -0.002], "+0.00 ± 0.01", False),
        ([1.0, 3.0] * 50, "+2.00 ± 0.20", True),  # a hundred seeds: 1.960 times 1.005, over 10
    ],
)
def test_an_interval_is_student_s_over_seeds(differences, text, excluded):
    assert gains.interval(differences) == text
    assert gains.excludes_zero(differences) is excluded


def test_the_committed_runs_are_whole():
    for task in (results.COPY, results.SHAPES, results.BRIEF, results.RESNET):
        facts, runs = results.read_all_facts(task.name), results.read(task.name)
        assert {(network, seed) for network in runs for seed in runs[network]} == facts.keys()
        for (network, seed), of_run in facts.items():
            epochs = [epoch.epoch for epoch in runs[network][seed]]
            assert epochs == [*range(1, len(epochs) + 1)] and len(epochs) >= task.epochs
            assert {key: str(of_run[key]) for key in task.facts} == {key: str(task.facts[key]) for key in task.facts}
            assert (of_run.get("control"), 0) in facts or not of_run.get("control")


def test_the_gallery_has_what_is_drawn_from_the_committed_runs(monkeypatch):
    drawn = {}
    for name in ("plot_run", "plot_comparison", "draw_gain_over_steps"):
        monkeypatch.setattr(results, name, lambda path, what, *_: drawn.update({path: what}))
    results.draw_gallery()
    of_trained = (".attention", "on-drawn-images", "blocks")
    assert drawn.keys() == {path for path in results.GALLERY.glob("*.png") if not path.stem.endswith(of_trained)}
    [runs] = [what for what in drawn.values() if isinstance(what, dict)]  # of the comparison
    assert len(runs) == 7 and all(control for name, (_, control) in runs.items() if name != "CNN")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Committed runs in which SE is 1, 2 and 3 points above its control in the last ten epochs, by seed."""
    for name in ("shapes", "jpeg-copy"):
        facts = (results.RUNS / f"{name}-facts.csv").read_text(encoding="utf-8").splitlines()[0]
        (tmp_path / f"{name}-facts.csv").write_text(f"{facts}\n", encoding="utf-8")
        lines = ["network,seed,epoch,train_loss,train_acc,test_loss,test_acc,seconds"]
        for network, seed in [(network, seed) for network in PAIR for seed in range(3)]:
            accuracy = 70 + (seed + 1) * (network == "SE-Attention")
            lines += [f"{network},{seed},{e},0.5,80,1,{accuracy if e > 10 else 20},2" for e in range(1, 21)]
        (tmp_path / f"{name}.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    monkeypatch.setattr(results, "RUNS", tmp_path)
    results.read.cache_clear()
    yield tmp_path
    results.read.cache_clear()


def test_gains_are_paired_by_seed_and_unfinished_runs_left_out(runs):
    assert results.gains(results.SHAPES, results.measure, *PAIR) == [1, 2, 3]
    assert results.gains(results.SHAPES, results.at(1), *PAIR) == [0, 0, 0]
    assert results.gains(results.COPY, results.measure, *PAIR) == []  # twenty epochs of thirty


FACTS = {"script": "SE-Attention", "seed": 3, "parameters": 5, "control": "CNN-32-64-128-shapes"} | results.SHAPES.facts


def sweep(folder, accuracies=(70.0,) * 20, **facts):
    """A sweep's folder with a run."""
    (folder / "seed3").mkdir(parents=True)
    write_csv(folder / "seed3" / "SE-Attention-shapes.csv", history(*accuracies))
    (folder / "seed3" / "SE-Attention-shapes.json").write_text(json.dumps(FACTS | facts), encoding="utf-8")
    return folder


def test_a_run_is_taken_in_once_and_when_it_is_finished(runs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        results.add_all(sweep(tmp_path / "too short", accuracies=(70.0,) * 19))
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "-shapes.json: has 19 of 20 epochs: continue the sweep with --epochs 20" in error
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
    results.add_all(sweep(tmp_path / "continued", accuracies=(70.0,) * 21))  # the same run with one epoch more
    assert len(results.read("shapes")["SE-Attention"][3]) == 21 and len(results.read_all_facts("shapes")) == 1


def test_a_folder_without_runs_is_refused(runs, tmp_path, capsys):
    for folder, why in (("nowhere", "folder not found"), (".", "has no runs"), ("broken", "not hold a run's facts")):
        if folder == "broken":
            (sweep(tmp_path / folder) / "seed3" / "SE-Attention-shapes.json").write_text("{")
        with pytest.raises(SystemExit):
            results.add_all(tmp_path / folder)
        error = capsys.readouterr().err
        assert why in error and error.count("\n") == 1
