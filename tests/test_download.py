"""CIFAR-10: as the archive, as extracted files, and from mirrors that fail in every way."""

import pickle
import shutil
import tarfile
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import ATTENTION, Process, expect, run

from common import load_data
from support.errors import UserError

FAULTS = ["refuse", "stall", "silent", "truncate", "lie", "nonsense", "wrong", "missing", "loop", "gibberish"]
LEFT = ["cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-10.lock"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def cifar(archive, monkeypatch):
    """The archive's path, with this process's reader made to expect it, and no mirrors."""
    expect(archive[1], setattr=monkeypatch.setattr)
    return archive[0]


def test_an_archive_put_there_by_hand_is_read(cifar, tmp_path):
    shutil.copy(cifar, tmp_path)
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


@pytest.mark.parametrize("file", ["data_batch_5", "test_batch", "batches.meta"])
def test_a_changed_file_is_never_opened_and_is_extracted_again(file, cifar, tmp_path):
    shutil.copy(cifar, tmp_path)
    load_data(str(tmp_path))
    path, content = tmp_path / LEFT[0] / file, pickle.dumps(Hostile())
    whole = path.read_bytes()
    path.write_bytes(content)
    assert len(load_data(str(tmp_path)).train_labels) == 50 and path.read_bytes() == whole
    with pytest.raises(pytest.fail.Exception, match="opened"):  # as it would have
        pickle.loads(content)


@pytest.mark.parametrize("damage", ["another", "half"])
def test_a_changed_archive_is_neither_extracted_nor_removed(damage, cifar, tmp_path):
    if damage == "half":
        (tmp_path / cifar.name).write_bytes(cifar.read_bytes()[:1000])
    else:
        with tarfile.open(tmp_path / cifar.name, "w:gz") as archive:
            archive.add(__file__, "cifar-10-batches-py/data_batch_1")
    before = (tmp_path / cifar.name).read_bytes()
    with pytest.raises(UserError, match=r"Put cifar-10-python.tar.gz into"):
        load_data(str(tmp_path))
    assert names(tmp_path) == LEFT[1:] and (tmp_path / cifar.name).read_bytes() == before


def test_each_fault_leads_to_the_next_mirror_and_nothing_else_is_shown(archive, server, tmp_path):
    mirrors = [server.url(name) for name in (*FAULTS, "redirect", "good")]
    result = run("CNN", "--epochs", 1, cwd=tmp_path, prepare=partial(expect, archive[1], mirrors))
    assert (result.status, result.err) == (0, "")
    lines = [f"Downloading CIFAR-10 (170 MB) from {mirror}" for mirror in mirrors[:-1]]
    lines.append(f"Extracting {Path('data', LEFT[1])}")
    assert result.out.splitlines()[: len(lines)] == lines and "CIFAR-10: 50 images to train" in result.out
    assert names(tmp_path / "data") == LEFT


def test_when_every_mirror_fails_it_says_why_and_what_to_do(archive, server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar-10-python.tar.gz.0123.partial").write_text("of a run that was killed")
    mirrors = [server.url(fault) for fault in FAULTS]
    result = run("CNN", cwd=tmp_path, prepare=partial(expect, archive[1], mirrors))
    assert result.status == 1 and names(tmp_path / "data") == LEFT[2:]
    said = result.err.splitlines()
    assert said[0] == "CNN.py: could not download CIFAR-10:" and len(said) == len(FAULTS) + 2
    for line, mirror in zip(said[1:], mirrors, strict=False):
        assert line.startswith(f"  {mirror}: ") and len(line) > len(mirror) + 6  # its reason
    assert said[-1].startswith(f"Put {LEFT[1]} into {tmp_path / 'data'}, or ") and "--data shapes" in said[-1]


def small_disk(sums: dict, mirrors: list[str]) -> None:
    """Makes writing fail in the middle of the archive."""
    import resource

    expect(sums, mirrors)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_ends_the_download(archive, server, tmp_path):
    pytest.importorskip("resource", reason="Windows limits no files")
    mirrors = [server.url("good"), server.url("redirect")]
    result = run("CNN", cwd=tmp_path, prepare=partial(small_disk, archive[1], mirrors))
    assert result.status == 1 and result.err.count("\n") == 1 and "fix the problem, then start again" in result.err
    assert server.requests == ["/good"] and names(tmp_path / "data") == LEFT[2:]


def test_of_two_scripts_started_at_the_same_time_one_downloads(archive, server, tmp_path):
    prepare = partial(expect, archive[1], [server.url("slow")])
    both = [Process(script, "--epochs", 1, cwd=tmp_path, prepare=prepare) for script in ATTENTION[2:4]]
    results = [process.wait() for process in both]
    assert [result.status for result in results] == [0, 0] and server.requests == ["/slow"]
    assert sum(result.out.count("Extracting") for result in results) == 1
