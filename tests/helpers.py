"""Runs the scripts as processes, and makes the small data sets that they run on."""

import hashlib
import io
import multiprocessing
import os
import pickle
import pkgutil
import runpy
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from networks import NETWORKS, build, load  # noqa: F401, for the tests
from PIL import Image

ROOT = Path(__file__).parent.parent

ATTENTION = [name for name, network in NETWORKS.items() if network.control]
SCRIPTS = ["CNN", *ATTENTION]

# Runs side by side share the cores: with a thread each, none waits for another's.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# A fork server has torch imported once for all runs, which are processes of their own all the same.
CONTEXT = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
if os.name != "nt":
    PRELOAD = ["common", "support.pictures.comparison", "support.pictures.attention_picture", "torchvision.datasets"]
    PRELOAD += [f"PIL.{module.name}" for module in pkgutil.iter_modules(PIL.__path__) if "Plugin" in module.name]
    CONTEXT.set_forkserver_preload(PRELOAD)


class Result(NamedTuple):
    status: int  # exit status; negative: the signal that ended it
    out: str
    err: str


class Process:
    """A running script. `prepare` is called in its process first, to swap in a test's server, say.

    It draws all pictures with `attention`, curves and comparison with `curves`, or else none: they take longer than
    training on a small tree.
    """

    def __init__(
        self,
        script: str,
        *arguments: object,
        cwd: Path,
        prepare: Callable[[], None] | None = None,
        attention: bool = False,
        curves: bool = False,
    ):
        self.logs = [Path(tempfile.mkstemp()[1]) for _ in range(2)]
        path = ROOT / f"{script}.py" if not script.endswith(".py") else Path(script)
        typed = [str(path), *map(str, arguments)]
        self.process = CONTEXT.Process(target=child, args=(typed, cwd, self.logs, prepare, attention, curves))
        self.process.start()

    def wait(self, seconds: float = 60) -> Result:
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError("still running")
        texts = []
        for log in self.logs:
            texts.append(log.read_text(encoding="utf-8"))
            log.unlink()
        return Result(self.process.exitcode, *texts)


def child(
    typed: list[str],
    cwd: Path,
    logs: list[Path],
    prepare: Callable[[], None] | None,
    attention: bool,
    curves: bool,
) -> None:
    os.chdir(cwd)
    for descriptor, log in enumerate(logs, 1):
        os.dup2(os.open(log, os.O_WRONLY), descriptor)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    sys.argv = typed
    if not attention:
        import support.pictures.attention_picture

        support.pictures.attention_picture.draw = lambda record: None
    if not (attention or curves):
        import support.pictures.comparison

        support.pictures.comparison.draw_curves = lambda record: 0
    if prepare:
        prepare()
    try:
        runpy.run_path(typed[0], run_name="__main__")
    finally:
        sys.stdout.flush()


def run(script: str, *arguments: object, **options) -> Result:
    return Process(script, *arguments, **options).wait()


def picture(rng: np.random.Generator, shade: int) -> Image.Image:
    return Image.fromarray(rng.integers(shade, shade + 100, (32, 32, 3), dtype=np.uint8))


def make_tree(folder: Path, classes: tuple[str, ...] = ("ant", "bee", "cow"), train: int = 20, test: int = 8) -> Path:
    """An image tree whose classes, the first three at least, differ in brightness."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                picture(rng, 50 * label % 150).save(folder / part / name / f"{i:04}.png")
    return folder


def make_archive(path: Path) -> dict:
    """A CIFAR-10 archive of 60 images, with the checksums that the real reader is to expect of it."""
    rng = np.random.default_rng(0)
    files = {f"data_batch_{i}": 10 for i in range(1, 6)} | {"test_batch": 10}
    md5 = {}
    with tarfile.open(path, "w:gz") as archive:

        def add(name: str, entry: dict) -> None:
            content = pickle.dumps(entry)
            md5[name] = hashlib.md5(content).hexdigest()
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        for name, count in files.items():
            images = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
            add(name, {"data": images, "labels": [i % 10 for i in range(count)]})
        add("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    content = path.read_bytes()
    return {
        "files": md5,
        "md5": hashlib.md5(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def expect(sums: dict, mirrors: list[str] = (), setattr: Callable = setattr) -> None:
    """Makes torchvision's reader and the download, in this process, take the archive of these checksums."""
    from torchvision.datasets import CIFAR10

    from support.data import download

    md5 = sums["files"]
    setattr(CIFAR10, "tgz_md5", sums["md5"])
    setattr(CIFAR10, "train_list", [[f"data_batch_{i}", md5[f"data_batch_{i}"]] for i in range(1, 6)])
    setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    setattr(download, "SHA256", sums["sha256"])
    setattr(download, "MIRRORS", list(mirrors))
    setattr(download, "PATIENCE", 0.7)


def rows(csv: Path) -> list[str]:
    """A CSV's lines without the seconds, which differ between runs."""
    return [line.rpartition(",")[0] for line in csv.read_text(encoding="utf-8").splitlines()]
