"""The sweep: it trains what is missing, continues past a failure, and stops its runs when it is stopped."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import sweep
import torch
from helpers import ROOT, Process, posix, rows

from support.files import holding
from support.run.facts import read_facts, write_facts
from support.run.record import Epoch, write_csv

SWEEP = str(ROOT / "benchmarks" / "sweep.py")


def test_it_trains_what_is_missing_and_continues_past_a_failure(tree, tmp_path, started, typed):
    out = tmp_path / "seed3"
    out.mkdir()
    (out / "CNN.pt").write_text("no checkpoint")
    networks = ["CNN", "CNN-32-64-128", "SE-Attention"]
    words = ["--networks", *networks, "--seeds", 3, "--epochs", 1, "--data", tree, "--out", tmp_path, "--jobs", 1]
    with holding(out, "SE-Attention"):
        status, said, errors = typed(sweep, *words)
    assert (status, errors.count("\n"), len(started)) == (1, 2, 3)
    assert f"{out / 'CNN.log'}: CNN.py: " in errors and "another run of SE-Attention is in progress" in errors
    assert "CNN-32-64-128, seed 3: done" in said and len(rows(out / "CNN-32-64-128.csv")) == 2
    (out / "CNN.pt").unlink()
    assert typed(sweep, *words).status == 0
    assert len(started) == 5 and len(rows(out / "CNN.csv")) == len(rows(out / "SE-Attention.csv")) == 2

    json = out / "CNN.json"
    facts = read_facts(json)
    for other in ({"lr": 0.002}, {"checksum": "0123abcd"}, {"batch_size": 32}, {"precision": "bf16"}, {"seed": 4}):
        write_facts(json, facts | other)
        ((key, value),) = other.items()
        status, said, errors = typed(sweep, *words)
        assert (status, said) == (2, "") and f"CNN.csv has {key} {value}, not {facts[key]}" in errors, other
    write_facts(json, facts)
    for key, known, value in (("lr", 0.001, 0.002), ("batch_size", 64, 32)):
        status, _, errors = typed(sweep, *words, f"--{key.replace('_', '-')}", value)
        assert (status, len(started)) == (2, 5) and f"has {key} {known}, not {value}" in errors


def test_a_seed_s_folder_that_cannot_be_made_is_said_before_any_run(tree, tmp_path, started, typed):
    (tmp_path / "seed1").write_text("a file")
    words = ["--networks", "CNN", "--seeds", 0, 1, "--data", tree, "--out", tmp_path]
    status, said, errors = typed(sweep, *words)
    assert (status, said, errors.count("\n"), started) == (1, "", 1, [])
    assert "cannot write" in errors and "; fix the problem, then run the same command again" in errors


def test_a_script_in_another_folder_finds_the_project_s_modules(tmp_path):
    (tmp_path / "Mine.py").write_text("from importlib.util import find_spec\nprint(find_spec('common').origin)")
    run = sweep.Run(tmp_path / "Mine.csv", 0, [str(tmp_path / "Mine.py")])
    options = SimpleNamespace(epochs=1, batch_size=64, lr=0.001, data="shapes", precision="fp32")
    assert sweep.start(run, "cpu", 1, options).wait() == 0
    assert (tmp_path / "Mine.log").read_text(encoding="utf-8").strip() == str(ROOT / "common.py")


@posix
def test_a_killed_run_s_last_line_is_not_taken_for_an_error(tmp_path, started):
    script = tmp_path / "Killed.py"
    script.write_text("import os, signal\nprint('Epoch [1/2]', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    run = sweep.Run(tmp_path / "seed0" / "Killed.csv", 0, [str(script)])
    flags = {"epochs": 2, "batch_size": 64, "lr": 0.001, "data": "shapes", "precision": "fp32"}
    failed = sweep.train([run], SimpleNamespace(device="cpu", jobs=1, **flags))
    assert failed == {run.csv: "killed (exit status -9): if memory ran out, try a smaller --batch-size"}
    assert run.csv.with_suffix(".log").read_text(encoding="utf-8") == "Epoch [1/2]\n"


def start_instead(script: Path) -> None:
    import networks

    networks.arguments = lambda name: [str(script)]


@posix
def test_stopped_it_leaves_no_run_behind(tree, tmp_path):
    pid, script = tmp_path / "pid", tmp_path / "script.py"
    script.write_text("import os, time\nopen('pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(300)")
    flags = ["--networks", "CNN", "--data", tree, "--out", tmp_path]
    process = Process(SWEEP, *flags, cwd=tmp_path, prepare=partial(start_instead, script))
    while not (pid.exists() and pid.read_text().endswith("\n")):
        assert process.process.is_alive()
        time.sleep(0.01)
    os.kill(process.process.pid, signal.SIGTERM)
    status, _, errors = process.wait()
    assert (status, errors) == (130, "sweep.py: stopped. Run the same command again to resume.\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    ("device", "jobs", "devices", "threads"),
    [
        ("cuda", 2, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"], None),
        ("cuda:1", 1, ["cuda:1"], "3"),  # the user's number of threads
    ],
)
def test_each_gpu_has_its_runs(device, jobs, devices, threads, tree, tmp_path, typed, monkeypatch):
    commands, running = [], []

    class Script:
        """In place of a script's process: it has trained when it is asked the second time."""

        def __init__(self, command, env, **_):
            self.flags = dict(word[2:].split("=", 1) for word in command if "=" in word)
            self.csv = Path(self.flags["out"]) / f"{Path(command[1]).stem}.csv"
            self.answers = iter([None, 0])
            running.append(self.flags["device"])
            assert running.count(self.flags["device"]) <= devices.count(self.flags["device"])
            commands.append((self.flags["device"], env["OMP_NUM_THREADS"]))

        def poll(self):
            answer = next(self.answers)
            if answer == 0:
                running.remove(self.flags["device"])
                write_csv(self.csv, [Epoch(1, 2, 10, 2, 10, 1)])
            return answer

    monkeypatch.setattr(sweep.subprocess, "Popen", Script)
    monkeypatch.setattr(sweep.command_line, "find_device", torch.device)
    monkeypatch.setattr(sweep, "cores", lambda: 8)
    monkeypatch.setattr(sweep.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", threads) if threads else monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sweep.signal, "signal", lambda *_: None)
    words = f"--networks CNN SE-Attention --seeds 0 1 2 --epochs 1 --device {device} --jobs {jobs}".split()
    assert typed(sweep, *words, "--data", tree, "--out", tmp_path).status == 0
    assert len(list(tmp_path.glob("seed*/*.csv"))) == len(commands) == 6
    assert [device for device, _ in commands[: len(devices)]] == devices
    assert {count for _, count in commands} == {threads or str(8 // len(devices))}
