"""A run's hold on its name in a folder, and what a second run of that name is told."""

import errno
import time

import pytest
from filelock import FileLock
from helpers import Process, run

from support.errors import UserError
from support.files import holding


def refusal(folder, name="CNN") -> str:
    """What the second that would hold a name is told."""
    with pytest.raises(UserError) as refused, holding(folder, name):
        pass
    assert refused.value.status == 2
    return str(refused.value)


def test_the_second_is_refused(tmp_path):
    (tmp_path / ".CNN.lock").touch()  # as every run leaves it
    with holding(tmp_path, "CNN"):
        said = refusal(tmp_path)
        assert f"another run of CNN is in progress in the folder {tmp_path}" in said and "or stop it" in said
        with holding(tmp_path, "SE-Attention"):  # another name, and another folder, are free
            pass
        (tmp_path / "other").mkdir()
        with holding(tmp_path / "other", "CNN"):
            pass
        refusal(tmp_path)  # the first still holds it
    with pytest.raises(KeyboardInterrupt), holding(tmp_path, "CNN"):
        raise KeyboardInterrupt
    with holding(tmp_path, "CNN"):  # is free again
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_without_locks_it_goes_on_with_a_word(code, tmp_path, monkeypatch, capsys):
    def no_locks(*_):
        raise OSError(code, "no locks here")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    done = []
    with holding(tmp_path, "CNN"):
        done.append("trained")
    said = capsys.readouterr().out
    assert done and said.count("\n") == 1 and str(tmp_path / ".CNN.lock") in said and "no locks here" in said


def test_two_runs_of_one_name(tree, tmp_path):
    """The second ends before it looks at the data, and so does a look; a run that is killed holds nobody up."""
    plots = tmp_path / "plots"
    first = Process("CNN", "--data", tree, "--epochs", 5000, cwd=tmp_path)
    while not (plots / "CNN.csv").exists():
        time.sleep(0.01)
    (tmp_path / "empty" / "train").mkdir(parents=True)  # no data set: never reached
    second, look = (Process("CNN", "--data", "empty", *flag, cwd=tmp_path) for flag in ([], ["--look"]))
    results = second.wait(), look.wait()
    first.process.kill()
    first.wait()
    for result in results:
        assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
        assert result.err.startswith("CNN.py: another run of CNN is in progress in the folder plots")
    assert run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path).status == 0
