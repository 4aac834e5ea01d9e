"""CIFAR-10: as the archive, as extracted files, and from mirrors that fail in every way."""

import hashlib
import http.server
import io
import pickle
import shutil
import socket
import tarfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import ATTENTION, Process, run

from common import load_data
from support.errors import UserError

FAULTS = ["refuse", "stall", "truncate", "wrong", "missing"]
LEFT = ["cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-10.lock"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A small CIFAR-10 archive, which no test changes, and the MD5 of each of its files."""
    path, md5, rng = tmp_path_factory.mktemp("archive") / LEFT[1], {}, np.random.default_rng(0)
    contents = {f"data_batch_{i}": 10 for i in range(1, 6)} | {"test_batch": 10, "batches.meta": 0}
    with tarfile.open(path, "w:gz") as tar:
        for name, count in contents.items():
            images = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
            entry = {"data": images, "labels": [i % 10 for i in range(count)]}
            content = pickle.dumps(entry if count else {"label_names": [f"class {i}" for i in range(10)]})
            md5[name] = hashlib.md5(content).hexdigest()
            info = tarfile.TarInfo(f"{LEFT[0]}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path, md5


def expect(archive: tuple[Path, dict], mirrors: list[str] = (), setattr: Callable = setattr) -> None:
    """Makes torchvision's reader and the download, in this process, take that archive."""
    from torchvision.datasets import CIFAR10

    from support.data import download

    path, md5 = archive
    setattr(CIFAR10, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    setattr(CIFAR10, "train_list", [[f"data_batch_{i}", md5[f"data_batch_{i}"]] for i in range(1, 6)])
    setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    setattr(download, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    setattr(download, "MIRRORS", list(mirrors))
    setattr(download, "PATIENCE", 0.7)


@pytest.fixture
def cifar(archive, monkeypatch):
    """The archive's path, with this process's reader made to expect it, and no mirrors."""
    expect(archive, setattr=monkeypatch.setattr)
    return archive[0]


@pytest.fixture
def server(archive):
    """An HTTP server on this machine that delivers the archive, or fails in the way that the path names."""
    content, requests, done = archive[0].read_bytes(), [], threading.Event()
    answers = {"/good": content, "/wrong": bytes(len(content))} | dict.fromkeys(["/truncate", "/stall"], content[:1000])

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            requests.append(self.path)
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(answers.get(self.path, b""))
            if self.path == "/stall":
                done.wait(300)

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]  # a port where nobody listens

    def url(name: str) -> str:
        return f"http://127.0.0.1:{nobody if name == 'refuse' else httpd.server_port}/{name}"

    yield SimpleNamespace(url=url, requests=requests)
    done.set()
    httpd.shutdown()
    httpd.server_close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_archive_put_there_by_hand_is_read(cifar, tmp_path):
    shutil.copy(cifar, tmp_path)
    for other in (".DS_Store", "notes.txt"):
        (tmp_path / other).touch()
    data = load_data(str(tmp_path))
    assert data.name == "CIFAR-10" and data.classes == [f"class {i}" for i in range(10)]
    assert data.train_images.shape == (50, 3, 32, 32) and data.test_images.shape == (10, 3, 32, 32)
    assert data.train_images.is_contiguous(memory_format=torch.channels_last)  # or every step would reorder
    assert data.train_images.dtype == torch.uint8 and data.test_labels.dtype == torch.int64
    assert data.train_labels.tolist() == [*range(10)] * 5
    with tarfile.open(cifar) as archive:  # against the file's own layout: planes of 1,024 red, green, blue
        batch = pickle.load(archive.extractfile("cifar-10-batches-py/data_batch_2"))
    assert data.train_images[10:20].numpy().reshape(10, 3072).tolist() == batch["data"].tolist()


def test_extracted_files_are_read_and_nothing_is_written(cifar, tmp_path):
    with tarfile.open(cifar) as archive:
        archive.extractall(tmp_path)
    tmp_path.chmod(0o500)
    assert len(load_data(str(tmp_path)).train_labels) == 50
    assert names(tmp_path) == LEFT[:1]


class Hostile:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("opened",)


@pytest.mark.parametrize("file", ["data_batch_5", "batches.meta"])
def test_a_changed_file_is_never_opened_and_is_extracted_again(file, cifar, tmp_path):
    shutil.copy(cifar, tmp_path)
    load_data(str(tmp_path))
    path = tmp_path / LEFT[0] / file
    whole = path.read_bytes()
    path.write_bytes(pickle.dumps(Hostile()))
    assert len(load_data(str(tmp_path)).train_labels) == 50 and path.read_bytes() == whole


def test_a_changed_archive_is_neither_extracted_nor_removed(cifar, tmp_path):
    half = cifar.read_bytes()[:1000]
    (tmp_path / cifar.name).write_bytes(half)
    with pytest.raises(UserError, match=r"Put cifar-10-python.tar.gz into"):
        load_data(str(tmp_path))
    assert names(tmp_path) == LEFT[1:] and (tmp_path / cifar.name).read_bytes() == half


def test_a_fault_leads_to_the_next_mirror_and_nothing_else_is_shown(archive, server, tmp_path):
    mirrors = [server.url(name) for name in ("wrong", "good")]
    result = run("CNN", "--epochs", 1, cwd=tmp_path, prepare=partial(expect, archive, mirrors))
    assert (result.status, result.err) == (0, "")
    lines = [f"Downloading CIFAR-10 (170 MB) from {mirror}" for mirror in mirrors]
    lines.append(f"Extracting {Path('data', LEFT[1])}")
    assert result.out.splitlines()[: len(lines)] == lines and "CIFAR-10: 50 images to train" in result.out
    assert names(tmp_path / "data") == LEFT


def test_when_every_mirror_fails_it_says_why_and_what_to_do(archive, server, tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("cifar-10-python.tar.gz.0123.partial", ".DS_Store"):  # of a run that was killed, and of macOS
        (tmp_path / "data" / name).touch()
    mirrors = [server.url(fault) for fault in FAULTS]
    result = run("CNN", cwd=tmp_path, prepare=partial(expect, archive, mirrors))
    assert result.status == 1 and names(tmp_path / "data") == [".DS_Store", LEFT[2]]
    first, *said, last = result.err.splitlines()
    assert first == "CNN.py: could not download CIFAR-10:"
    for line, mirror in zip(said, mirrors, strict=True):
        assert line.startswith(f"  {mirror}: ") and len(line) > len(mirror) + 6  # its reason
    assert last.startswith(f"Put {LEFT[1]} into {tmp_path / 'data'}, or ") and "--data shapes" in last


def test_of_two_scripts_started_at_the_same_time_one_downloads(archive, server, tmp_path):
    prepare = partial(expect, archive, [server.url("good")])
    both = [Process(script, "--epochs", 1, cwd=tmp_path, prepare=prepare) for script in ATTENTION[2:4]]
    results = [process.wait() for process in both]
    assert [result.status for result in results] == [0, 0] and server.requests == ["/good"]
    assert sum(result.out.count("Extracting") for result in results) == 1
