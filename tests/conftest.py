import pytest
from helpers import CONTEXT, DRAWN, SCRIPTS, Process, make_tree

if CONTEXT.get_start_method() == "forkserver":
    from multiprocessing import forkserver  # not on every system

    forkserver.ensure_running()  # it imports torch while the tests are collected


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A small image tree that no test changes."""
    return make_tree(tmp_path_factory.mktemp("data") / "tiny tree")


@pytest.fixture(scope="session")
def finished(tree, tmp_path_factory):
    """Every script, run for two epochs in a folder of its own: {script: (result, folder)}. No test changes them.

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
