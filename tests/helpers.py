"""Runs the scripts as processes, and makes the small image tree that they run on."""

import multiprocessing
import os
import pkgutil
import runpy
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import pytest
import torch
from networks import NETWORKS, build, load  # noqa: F401, for the tests
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
ATTENTION = [name for name, network in NETWORKS.items() if network.control]
SCRIPTS = ["CNN", *ATTENTION]
DRAWN = ["CNN", "Self-Attention", "CBAM-Attention", "STN-Attention"]  # pictures of all kinds are among theirs

posix = pytest.mark.skipif(os.name == "nt", reason="uses what Windows lacks")
# Runs side by side share the cores: with a thread each, none waits for another's.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# A fork server has torch, and what else takes long, imported once for all runs, each of which is a process of its own.
CONTEXT = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
if os.name != "nt":
    PRELOAD = ["pytest", "in_place", "support.pictures.comparison", "support.pictures.attention_picture"]
    PRELOAD += [f"PIL.{module.name}" for module in pkgutil.iter_modules(PIL.__path__) if "Plugin" in module.name]
    CONTEXT.set_forkserver_preload(PRELOAD)


class Result(NamedTuple):
    status: int  # exit status; negative: the signal that ended it
    out: str
    err: str


class Process:
    """A running script. `prepare` is called in its process first.

    It draws the attention picture with `attention`, and plot and comparison with `curves`: they take longer than
    training on a small tree.
    """

    def __init__(
        self,
        script: str | Path,
        *arguments: object,
        cwd: Path,
        prepare: Callable[[], None] | None = None,
        attention: bool = False,
        curves: bool = False,
    ):
        self.logs = [Path(tempfile.mkstemp()[1]) for _ in range(2)]
        path = ROOT / f"{script}.py" if script in SCRIPTS else script
        typed = [str(path), *map(str, arguments)]
        self.process = CONTEXT.Process(target=child, args=(typed, cwd, self.logs, prepare, attention, curves))
        self.process.start()

    def wait(self, seconds: float = 120) -> Result:
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError("still running")
        texts = [log.read_text(encoding="utf-8") for log in self.logs]
        for log in self.logs:
            log.unlink()
        return Result(self.process.exitcode, *texts)


def child(
    typed: list[str], cwd: Path, logs: list[Path], prepare: Callable[[], None] | None, attention: bool, curves: bool
) -> None:
    from support.pictures import attention_picture, comparison

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has its background jobs ignore
    os.chdir(cwd)
    for descriptor, log in enumerate(logs, 1):
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), descriptor)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    sys.argv = typed
    if not attention:
        attention_picture.draw = lambda record: None
    if not curves:
        comparison.draw_curves = lambda record: 0
    if prepare:
        prepare()
    try:
        runpy.run_path(typed[0], run_name="__main__")
    finally:
        sys.stdout.flush()


def run(script: str | Path, *arguments: object, **options) -> Result:
    return Process(script, *arguments, **options).wait()


class Forked:
    """In place of `subprocess.Popen`: a script in a process that has torch imported already, without pictures."""

    def __init__(self, command, stdout, stderr, env):
        typed, log = [str(word) for word in command[1:]], Path(stdout.name).absolute()
        self.process = CONTEXT.Process(target=child, args=(typed, Path.cwd(), [log, log], None, False, False))
        self.process.start()

    def poll(self):
        self.returncode = self.process.exitcode
        return self.returncode


def check_refused(result: Result, says: str, status: int = 2) -> None:
    """The run ended with one line on standard error, which says this."""
    assert result.status == status and result.err.count("\n") == 1 and says in result.err, result


def make_tree(folder: Path, classes: tuple[str, ...] = ("ant", "bee", "cow"), train: int = 20, test: int = 8) -> Path:
    """An image tree whose classes, the first three at least, differ in brightness."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                shade = 50 * label % 150
                pixels = rng.integers(shade, shade + 100, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i:04}.png")
    return folder


def copy_script(script: str, path: Path, old: str = "", new: str = "") -> Path:
    """A copy of a script as its user edits it."""
    source = (ROOT / f"{script}.py").read_text(encoding="utf-8")
    assert old in source
    path.write_text(source.replace(old, new) if old else source, encoding="utf-8")
    return path


def rows(csv: Path) -> list[str]:
    """A CSV's lines without the seconds, which differ between runs."""
    return [line.rpartition(",")[0] for line in csv.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for locks."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}
