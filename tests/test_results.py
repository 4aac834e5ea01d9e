"""The documents' tables: that they are what the committed CSVs give, and that the arithmetic is right."""

import shutil

import gains
import gallery
import pytest
import results
import torch
from helpers import ROOT, build, run
from PIL import Image

from support.errors import UserError
from support.run.facts import write_facts
from support.run.history import Epoch, write_csv


def save(folder, name, history, **facts):
    folder.mkdir(exist_ok=True)
    write_csv(folder / f"{name}.csv", history)
    write_facts(folder / f"{name}.json", {"data": "made up"} | facts)


def make_runs(folder, seeds=3, epochs=30):
    """Runs in which SE ends 1, 2 and 3 points, by seed, above its control, and STN 5; other epochs are far off."""
    for name in (*gains.NETWORKS, "Trunk-Self-Local", "Trunk-Self-Uniform"):
        for seed in range(seeds):
            accuracy = 70 + seed + (seed + 1) * (name == "SE-Attention") + 5 * (name == "STN-Attention")
            best = Epoch(1, 0.5, 80.0, 0.9, 99.0 if name == "SE-Attention" else 50.0, 2.0)
            history = [best._replace(epoch=e) for e in range(1, epochs)] + [Epoch(epochs, 0.5, 80, 1.1, accuracy, 2)]
            save(folder / f"seed{seed}", name, [*history, best._replace(epoch=epochs + 1)], seed=seed)
    return gains.Task("made up", folder, epochs, {"data": "made up", "lr": 0.001})


def row(table, name):
    [line] = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_document_has_the_tables_of_the_committed_runs():
    document = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for table in results.tables():
        assert table in document, f"benchmarks/README.md lacks this table of the committed runs:\n{table}"


def test_what_a_block_adds_is_paired_by_seed_at_the_task_s_epoch(tmp_path):
    table = results.what_blocks_add(make_runs(tmp_path))
    # differences 1, 2, 3: mean 2, standard deviation 1, and 4.303 of Student's t with two degrees of freedom
    half = f"{4.303 / 3**0.5:.2f}"
    assert row(table, "SE-Attention")[1:5] == ["CNN-32-64-128", "73.00 / 71.00", f"+2.00 ± {half}", "no"]
    assert row(table, "SE-Attention")[5].startswith("+44.30")  # nine epochs of 49, and the last
    assert row(table, "STN-Attention")[3:5] == ["+5.00 ± 0.00", "yes"]
    assert row(table, "ECA-Attention")[3:] == ["+0.00 ± 0.00", "no", "+0.00 ± 0.00", "3"]


def test_one_seed_has_no_interval_and_shows_nothing(tmp_path):
    table = results.what_blocks_add(make_runs(tmp_path, seeds=1))
    assert row(table, "SE-Attention")[3:5] == ["+1.00", "-"]


def test_a_run_that_stopped_early_is_left_out(tmp_path):
    task = make_runs(tmp_path)
    save(tmp_path / "seed2", "SE-Attention", [Epoch(1, 0.5, 80, 1, 99, 2)])
    assert gains.gains(task, "SE-Attention", "CNN-32-64-128") == [1, 2]


@pytest.mark.parametrize("wrong", [{"seed": 1}, {"data": "other"}, {"lr": 0.1}])
def test_a_run_in_the_wrong_folder_is_said(wrong, tmp_path):
    task = make_runs(tmp_path)
    save(tmp_path / "seed2", "SE-Attention", [Epoch(1, 0.5, 80, 1, 99, 2)], **wrong)
    [(key, value)] = wrong.items()
    with pytest.raises(UserError, match=f"seed2.SE-Attention.csv has {key} {value}, ") as error:
        gains.read_runs(task, "SE-Attention")
    assert "\n" not in str(error.value)


def test_a_run_without_facts_is_left_out(tmp_path):
    task = make_runs(tmp_path)
    (tmp_path / "seed2" / "SE-Attention.json").unlink()
    assert list(gains.read_runs(task, "SE-Attention")) == [0, 1]


def test_runs_on_the_original_files_get_their_tables(tmp_path, monkeypatch):
    there = make_runs(tmp_path)._replace(title="CIFAR-10")
    monkeypatch.setattr(results, "CIFAR10", there)
    monkeypatch.setattr(results, "tasks", lambda: [gains.JPEG_COPY, gains.SHAPES, there])
    heads = [table.partition(" |")[0] for table in results.tables()]
    assert heads.count("| CIFAR-10") == 1 and heads.count("| CIFAR-10, seed 0") == 2
    assert heads.count("| published / CIFAR-10") == 2


def test_operations_are_those_of_the_formula():
    """Whatever PyTorch's kernels and its way of counting them."""

    def multi_head(channels, positions):
        projections = 2 * positions * channels * 4 * channels  # queries, keys, values and output
        return projections + 2 * 2 * positions * positions * channels  # scores and sums

    added = results.operations("Multi-Head Attention") - results.operations("CNN-32-64-128")
    assert added == pytest.approx((multi_head(64, 64) + multi_head(128, 16)) / 1e6)


def test_the_gallery_s_curves_and_comparison_are_drawn_from_the_committed_runs(monkeypatch):
    drawn, compared = [], []
    for picture in ("draw_gain", "draw_variants"):
        monkeypatch.setattr(gallery, picture, drawn.append)
    monkeypatch.setattr(gallery, "plot_run", lambda path, csv, history, *rest: drawn.append(path))
    monkeypatch.setattr(gallery, "plot_comparison", lambda path, runs, data: compared.append((path, runs)))
    gallery.draw_gallery()
    [(path, runs)] = compared
    assert list(runs) == [name for name, network in gallery.NETWORKS.items() if name == "CNN" or network.control]
    assert all(control for name, (_, control) in runs.items() if name != "CNN")
    of_trained = (".attention", "on-drawn-images", "blocks")
    pictures = {path for path in gallery.GALLERY.glob("*.png") if not path.stem.endswith(of_trained)}
    assert {*drawn, path} == pictures


def test_the_drawn_gains_are_the_computed_ones(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(gallery, "save", lambda figure, path: drawn.append(figure))
    monkeypatch.setattr(gallery, "tasks", lambda: [make_runs(tmp_path)] * 2)
    gallery.draw_gain(tmp_path / "gain.png")
    lines = [line.get_xydata().tolist() for line in drawn[0].axes[0].lines]
    assert [[1.0, 2], [2.0, 2], [3.0, 2]] in lines  # SE's seeds, in its row


def test_what_a_gate_s_start_costs_is_told_by_halves_of_the_seeds(tmp_path):
    task = make_runs(tmp_path, seeds=7, epochs=20)
    for seed in range(7):  # 2 x SE: over the control 1 in seeds 0 to 4, 3 in 5 and 6; twice SE is 1 + seed over it
        accuracy = 71 + seed + 2 * (seed > 4)
        save(
            tmp_path / f"seed{seed}",
            "Trunk-SE-Twice",
            [Epoch(e, 0.5, 80, 1, accuracy, 2) for e in range(1, 21)],
            seed=seed,
        )
    for name in (gains.CONTROL, "SE-Attention"):
        for seed in range(7):
            accuracy = 70 + seed + (name == "SE-Attention") / 2
            save(tmp_path / f"seed{seed}", name, [Epoch(e, 0.5, 80, 1, accuracy, 2) for e in range(1, 21)], seed=seed)
    cells = row(results.gates_starts(task), "2 x SE")
    assert cells[2:4] == ["+1.00 ± 0.00", "+3.00 ± 0.00"] and cells[1].startswith("+1.57 ± ")
    assert cells[5].startswith("+1.07 ± ") and cells[6] == "7"


def test_an_inserted_block_is_compared_with_training_on_without_one(tmp_path):
    task = gains.INSERTED._replace(folder=tmp_path, facts={})
    for name in ("ResNet-8", *(name for name, _ in task.rows.values())):
        for seed in range(3):  # SE starts 30 points lower, and gains 10, 13 and 13 in each epoch, by seed
            behind = [(30 - (10 + 3 * (seed > 0)) * epoch) * (name == "ResNet-8-SE") for epoch in range(4)]
            history = [Epoch(epoch, 0.5, 80, 1, 70 + seed - points, 2) for epoch, points in enumerate(behind)]
            save(tmp_path / f"seed{seed}", name, history, seed=seed)
    table = results.after_inserting(task)
    assert row(table, "no block") == ["no block", "71.00", "71.00", "71.00", "3"]
    assert row(table, "SE") == ["SE", "41.00 (-30.00 ± 0.00)", "53.00 (-18.00 ± 4.30)", "77.00 (+6.00 ± 12.91)", "3"]


def test_the_six_blocks_in_one_picture(finished, tree, tmp_path):
    script = str(ROOT / "benchmarks" / "blocks.py")
    typed = [script, "--data", tree, "--runs", "runs", "--shapes", "shapes", "--out", "out"]
    missing = run(*typed, cwd=tmp_path)
    assert missing.status == 2 and "STN-Attention-shapes.pt" in missing.err and missing.err.count("\n") == 1
    for folder in ("runs", "shapes"):
        (tmp_path / folder).mkdir()
    for name in gains.BLOCKS:
        shutil.copy(finished[name][1] / "plots" / f"{name}.pt", tmp_path / "runs")
    model = build("STN-Attention")
    checkpoint = {
        "facts": gains.SHAPES.facts,
        "history": [],
        "model": model.state_dict(),
        "optimizer": torch.optim.Adam(model.parameters()).state_dict(),
    }
    torch.save(checkpoint, tmp_path / "shapes" / "STN-Attention-shapes.pt")
    result = run(*typed, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    with Image.open(tmp_path / "out" / "blocks.png") as picture:
        assert picture.width == 1400
