import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from runpy import run_path
from types import ModuleType

import pytest
from helpers import CONTEXT, DRAWN, SCRIPTS, Forked, Process, Result, make_tree

if CONTEXT.get_start_method() == "forkserver":
    from multiprocessing import forkserver  # not on every system

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # which older Pythons do not hand to the server
        forkserver.ensure_running()  # it imports torch while the tests are collected


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A small image tree that no test changes."""
    return make_tree(tmp_path_factory.mktemp("data") / "tiny tree")


@pytest.fixture(scope="session")
def finished(tree, tmp_path_factory):
    """Every script, run for two epochs in a folder of its own: {script: (result, folder)}. Tests leave them so.

    Curves are drawn for one of them, and attention for one of each kind.
    """
    folders = {script: tmp_path_factory.mktemp("finished") for script in SCRIPTS}
    started = {
        script: Process(
            script, "--data", tree, "--epochs", 2, cwd=folder, attention=script in DRAWN, curves=script == "CNN"
        )
        for script, folder in folders.items()
    }
    return {script: (started[script].wait(), folders[script]) for script in SCRIPTS}


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Types a command in this process: a script that does not get to train, or a program that starts others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("common.tuned", lambda *_: nullcontext())  # it changes the process for good

    def typed(program: str | Path | ModuleType, *words: object) -> Result:
        path = program.__file__ if isinstance(program, ModuleType) else str(program)
        monkeypatch.setattr(sys, "argv", [path, *map(str, words)])
        status = 0
        try:
            if isinstance(program, ModuleType):
                program.plainly(program.main)
            else:
                run_path(path, run_name="__main__")
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Result(status, *capsys.readouterr())

    return typed


@pytest.fixture
def started(monkeypatch):
    """The commands of the runs that a program starts; they are started as `Forked`."""
    commands, sleep = [], time.sleep
    monkeypatch.setattr(subprocess, "Popen", lambda c, **flags: commands.append(c) or Forked(c, **flags))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(time, "sleep", lambda _: sleep(0.05))
    return commands
