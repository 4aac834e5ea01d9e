"""The README's tables: that they are what the committed CSVs give, and that the arithmetic is right."""

import subprocess
import sys

import pytest
from helpers import ROOT

from common import Epoch, Stop, write_csv

sys.path.insert(0, str(ROOT / "benchmarks"))
import results


def make_runs(folder, seeds=3, epochs=10):
    """CSVs in which SE ends 1, 2 and 3 points, by seed, and 0.1 of loss above its control."""
    (folder / "seeds").mkdir()
    for name in results.RUNS.values():
        for seed in range(seeds):
            path = folder / f"{name}.csv" if seed == 0 else folder / "seeds" / f"{name}-{seed}.csv"
            se, stn_control = name == "SE-Attention", name == "CNN-64-128"
            accuracy = 70 + seed + (seed + 1) * se - 5 * stn_control
            loss = 1.0 + 0.1 * seed + 0.1 * se
            last = Epoch(epochs, 0.5, 80.0, loss, accuracy, 2.0 if se else 1.6)
            first = [last._replace(epoch=e, test_loss=0.9, test_acc=99.0) for e in range(1, epochs)]
            write_csv(path, [*first, last])
    return folder


def row(table, name):
    [line] = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def own_runs() -> bool:
    """Whether somebody's own runs have replaced the committed ones."""
    try:
        status = ["git", "status", "--porcelain", "--untracked-files=all", "--", "plots/*.csv"]
        return bool(subprocess.run(status, cwd=ROOT, capture_output=True).stdout)
    except OSError:  # no git
        return False


@pytest.mark.skipif(own_runs(), reason="plots/ holds other runs than the committed ones")
def test_readme_has_the_tables_of_the_committed_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for table in results.tables():
        assert table in readme, f"the README lacks this table of the runs in plots/:\n{table}"


def test_what_a_block_adds_is_paired_by_seed_at_the_last_epoch(tmp_path):
    table = results.what_blocks_add(results.read_runs(make_runs(tmp_path)))
    # differences 1, 2, 3: mean 2, standard deviation 1, and 4.303 of Student's t with two degrees of freedom
    assert row(table, "SE-Attention")[2] == f"+2.00 ± {4.303 / 3**0.5:.2f}"
    assert row(table, "SE-Attention")[1] == "CNN-32-64-128"
    assert row(table, "SE-Attention")[3] == "+0.10 ± 0.00"
    assert row(table, "ECA-Attention")[2] == "+0.00 ± 0.00"
    assert row(table, "STN-Attention")[1:3] == ["CNN-64-128", "+5.00 ± 0.00"]
    # two layers of 64 -> 4 -> 64 and 128 -> 8 -> 128 weights, each a multiplication and an addition
    assert row(table, "SE-Attention")[4:] == ["+2,560", "+0.01", "1.25"]


def test_published_stand_beside_mean_and_deviation(tmp_path):
    runs = results.read_runs(make_runs(tmp_path))
    table = results.beside_the_published(runs, "test_acc", 2)
    assert row(table, "CNN") == ["CNN", "58.41 / 99.00 ± 0.00", "72.85 / 71.00 ± 1.00"]
    assert row(table, "CNN-64-128")[2] == "- / 66.00 ± 1.00"


def test_one_seed_has_no_deviation(tmp_path):
    runs = results.read_runs(make_runs(tmp_path, seeds=1))
    assert row(results.what_blocks_add(runs), "SE-Attention")[2] == "+1.00"
    assert row(results.over_fitting(runs), "SE-Attention")[1:] == ["0.90", "1", "1.10", "80.0", "71.00"]


@pytest.mark.parametrize("wrong", ["missing seed", "missing run", "missing baseline", "fewer epochs", "one run twice"])
def test_refuses_to_mix(wrong, tmp_path):
    make_runs(tmp_path)
    if wrong == "missing seed":
        (tmp_path / "seeds" / "ECA-Attention-2.csv").unlink()
    elif wrong == "missing run":
        (tmp_path / "STN-Attention.csv").unlink()
    elif wrong == "missing baseline":
        (tmp_path / "CNN.csv").unlink()
    elif wrong == "one run twice":
        (tmp_path / "seeds" / "CNN-1.csv").write_bytes((tmp_path / "CNN.csv").read_bytes())
    else:
        write_csv(tmp_path / "CNN.csv", [Epoch(1, 1, 1, 1, 1, 1)])
    says = "copy" if wrong == "one run twice" else "were expected"
    with pytest.raises(Stop, match=says):
        results.read_runs(tmp_path)
