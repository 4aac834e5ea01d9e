"""The sweep: it trains what is missing, continues past a failure, and stops its runs when it is stopped."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import sweep as module
import torch
from helpers import ROOT, Process, rows, run

from support.files import holding
from support.run.history import Epoch, write_csv

posix = pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
SWEEP = str(ROOT / "benchmarks" / "sweep.py")


def test_it_trains_what_is_missing_and_continues_past_a_failure_and_a_run_elsewhere(tree, tmp_path):
    out = tmp_path / "seed3"
    out.mkdir()
    (out / "CNN.pt").write_text("no checkpoint")
    write_csv(out / "ECA-Attention.csv", [Epoch(1, 2, 10, 2, 10, 1)])  # complete
    networks = ["CNN", "CNN-32-64-128", "SE-Attention", "ECA-Attention"]
    with holding(out, "SE-Attention"):
        typed = ["--networks", *networks, "--seeds", 3, "--epochs", 1, "--data", tree, "--out", tmp_path]
        status, said, errors = run(SWEEP, *typed, cwd=tmp_path)
    assert status == 1 and errors.count("\n") == 2 and "ECA" not in said
    assert errors.startswith("CNN, seed 3 failed: CNN.py: ") and str(out / "CNN.log") in errors
    assert not (out / "CNN.csv").exists() and len(rows(out / "CNN-32-64-128.csv")) == 2
    assert "SE-Attention, seed 3: trained elsewhere, skipped\n" in said
    assert "SE-Attention, seed 3 is not complete" in errors and not (out / "SE-Attention.csv").exists()


def test_a_seed_s_folder_that_cannot_be_made_is_said_before_any_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "seed1").write_text("a file")
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--networks", "CNN", "--seeds", "0", "1", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        module.main()
    said, errors = capsys.readouterr()
    assert (ended.value.code, said, errors.count("\n")) == (2, "", 1) and "cannot write in the folder" in errors
    assert not list(tmp_path.glob("seed0/*"))


@posix
def test_stopped_it_leaves_no_run_behind(tree, tmp_path):
    process = Process(SWEEP, "--networks", "CNN", "--epochs", 5000, "--data", tree, "--out", tmp_path, cwd=tmp_path)
    csv = tmp_path / "seed0" / "CNN.csv"
    while not csv.exists():
        assert process.process.is_alive()
        time.sleep(0.05)
    os.kill(process.process.pid, signal.SIGINT)
    status, _, errors = process.wait()
    assert (status, errors) == (130, "stopped; the same command continues\n")
    before = rows(csv)
    time.sleep(0.5)  # a dozen epochs
    assert 2 <= len(before) < 5000 and rows(csv) == before


@pytest.mark.parametrize(
    ("visible", "device", "jobs", "gpus"),
    [
        ("4,GPU-a,9", "cuda", 1, ["4", "GPU-a"]),  # the third is not there
        ("", "cuda", 1, ["0", "1"]),
        ("4,6", "cuda", 2, ["4", "6", "4", "6"]),
        ("4,6", "cuda:1", 1, ["4,6"]),  # the script finds it
    ],
)
def test_each_gpu_has_its_runs(visible, device, jobs, gpus, tmp_path, monkeypatch):
    started = []

    class Script:
        """In the place of a script's process: writes its epoch and ends when it is asked the second time."""

        def __init__(self, command, env, **_):
            words = list(map(str, command))
            self.csv = Path(words[words.index("--out") + 1]) / f"{Path(words[1]).stem}.csv"
            self.gpu, self.threads = env["CUDA_VISIBLE_DEVICES"], env["OMP_NUM_THREADS"]
            self.answers = iter([None, 0])
            self.returncode = None
            assert [process.gpu for process in running()].count(self.gpu) < gpus.count(self.gpu)
            started.append(self)

        def poll(self):
            self.returncode = next(self.answers)
            if self.returncode == 0:
                write_csv(self.csv, [Epoch(1, 2, 10, 2, 10, 1)])
            return self.returncode

    def running():
        return [process for process in started if process.returncode is None]

    monkeypatch.setattr(module.subprocess, "Popen", Script)
    monkeypatch.setattr(module, "find_device", torch.device)
    monkeypatch.setattr(module, "cores", lambda: 8)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    typed = f"--networks CNN SE-Attention --seeds 0 1 2 --epochs 1 --device {device} --jobs {jobs} --out".split()
    monkeypatch.setattr(sys, "argv", ["sweep.py", *typed, str(tmp_path)])
    module.main()
    assert len(list(tmp_path.glob("seed*/*.csv"))) == len(started) == 6
    assert [process.gpu for process in started[: len(gpus)]] == gpus
    assert {process.threads for process in started} == {str(8 // len(gpus))}
