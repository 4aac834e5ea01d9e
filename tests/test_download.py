"""CIFAR-10's download, from mirrors that fail in every way."""

import gzip
from functools import partial

import pytest
from helpers import ATTENTION, Process, expect, run


def test_without_a_network_says_where_to_put_the_archive(archive, tmp_path):
    mirrors = [f"http://127.0.0.1:9/{i}/cifar-10-python.tar.gz" for i in range(4)]
    result = run("CNN", cwd=tmp_path, prepare=partial(expect, archive[1], mirrors))
    assert result.status == 1 and "Traceback" not in result.err
    for mirror in mirrors:
        assert f"{mirror}: [Errno" in result.err  # its reason
    assert str(tmp_path / "data") in result.err and "--data shapes" in result.err


FAULTS = ["refuse", "stall", "silent", "truncate", "lie", "nonsense", "wrong", "missing", "loop"]


@pytest.mark.parametrize("fault", FAULTS)
def test_download_goes_on_to_the_next_mirror(fault, archive, server, tmp_path):
    mirrors = [server.url(fault), server.url("redirect")]
    result = run("CNN", "--epochs", 1, cwd=tmp_path, prepare=partial(expect, archive[1], mirrors))
    assert (result.status, result.err) == (0, "")
    assert "CIFAR-10: 50 images to train" in result.out
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "cifar-10.lock",
    ]


def test_when_every_mirror_fails_nothing_is_left(archive, server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar-10-python.tar.gz.0123.partial").write_text("of a run that was killed")
    mirrors = [server.url(fault) for fault in FAULTS]
    result = run("CNN", cwd=tmp_path, prepare=partial(expect, archive[1], mirrors))
    assert result.status == 1 and "Traceback" not in result.err
    assert all(mirror in result.err for mirror in mirrors)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cifar-10.lock"]


def test_two_scripts_started_at_once_download_once(archive, server, tmp_path):
    prepare = partial(expect, archive[1], [server.url("slow")])
    both = [Process(script, "--epochs", 1, cwd=tmp_path, prepare=prepare) for script in ATTENTION[2:4]]
    assert [process.wait().status for process in both] == [0, 0]
    assert server.requests.count("/slow") == 1


def test_gzip_is_what_the_archive_is(archive):
    """The small archive is of the kind that the real one is, so the tests above go the real way."""
    assert gzip.decompress(archive[0].read_bytes())[257:262] == b"ustar"
