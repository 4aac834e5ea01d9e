"""Scripts run from a notebook's cells, in a real kernel."""

import queue
import time

import pytest
from helpers import ROOT, make_tree

pytest.importorskip("ipykernel")
manager = pytest.importorskip("jupyter_client.manager")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    kernel, client = manager.start_new_kernel(kernel_name="python3", cwd=str(folder))
    yield client
    client.stop_channels()
    kernel.shutdown_kernel(now=True)


def execute(client, code: str, seconds: float = 120) -> tuple[str, str]:
    """Runs a cell: how it ended, and everything that it wrote."""
    request = client.execute(code)
    wrote, deadline = [], time.monotonic() + seconds
    while True:
        try:
            message = client.get_iopub_msg(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            pytest.fail(f"the cell did not end: {''.join(wrote)}")
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                wrote.append(content["text"])
            case "error":
                wrote.append("\n".join(content["traceback"]))
            case "status" if content["execution_state"] == "idle":
                break
    while True:  # another client's answer may come first
        reply = client.get_shell_msg(timeout=max(1, deadline - time.monotonic()))
        if reply["parent_header"].get("msg_id") == request:
            return reply["content"]["status"], "".join(wrote)


BLOCK = """
from torch import nn
from common import CNN, run

class Twice(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Linear(1, 1)

    def forward(self, x):
        return 2 * self.scale.weight * x

def build(num_classes, block=Twice):
    return CNN(attention=block, num_classes=num_classes)
"""


@pytest.fixture(scope="module")
def folder(kernel, tmp_path_factory):
    """A folder with a small image tree, in which the kernel works from here on."""
    folder = tmp_path_factory.mktemp("cells")
    make_tree(folder / "tree", train=4, test=2)
    execute(kernel, f"import os, sys\nos.chdir({str(folder)!r})\nsys.path.insert(0, {str(ROOT)!r})")
    return folder


@pytest.mark.parametrize("how", ["%run", "!{sys.executable}"])
def test_a_script_runs_from_a_cell(how, kernel, folder):
    out = f"out{how[0]}".replace("!", "1").replace("%", "2")
    status, wrote = execute(kernel, f'{how} "{ROOT / "SE-Attention.py"}" --data tree --epochs 1 --out {out}')
    assert status == "ok" and "Traceback" not in wrote, wrote
    assert "Epoch [1/1] Train Loss" in wrote and "Done: " in wrote, wrote
    assert (folder / out / "SE-Attention.png").exists() and (folder / out / "SE-Attention.attention.png").exists()
    if how == "%run":
        assert "the same network without the block: %run " in wrote, wrote


def test_a_block_from_a_cell(kernel, folder):
    execute(kernel, BLOCK)
    status, wrote = execute(kernel, "run(build)")
    assert (status, wrote.count("\n")) == ("ok", 1) and 'run(build, name="Mine", argv=["--data", "shapes"])' in wrote
    status, wrote = execute(kernel, 'run(build, "Plain", "Mine", ["--data", "tree", "--epochs", 1])')
    assert status == "ok" and "Epoch [1/1]" in wrote and (folder / "plots" / "Mine.png").exists(), wrote
    said = wrote.partition("without the block: ")[2].partition("; then")[0]
    assert said.startswith("run(build, control='Plain', name='Mine', argv=[") and "'--control']" in said
    status, wrote = execute(kernel, said)
    assert status == "ok" and (folder / "plots" / "Plain.png").exists(), wrote


@pytest.mark.parametrize("typed", ['["--epochs", "none"]', '["--data", "nowhere"]'])
def test_what_is_refused_in_a_cell_is_one_line(typed, kernel, folder):
    status, wrote = execute(kernel, f'run(build, name="Mine", argv={typed})')
    assert status == "ok" and wrote.count("\n") == 1 and "SystemExit" not in wrote, wrote


def test_a_run_that_is_stopped_closes_its_bar(kernel, folder):
    """IPython keeps the traceback, and so the bar, which would push those of the next run down."""
    code = "import common\nfrom tqdm import tqdm\ncommon.train_step, before = stop, common.train_step\n"
    code = f"def stop(*_):\n    raise KeyboardInterrupt\n{code}"
    code += 'run(build, name="Mine", argv=["--data", "tree", "--out", "stopped"])\ncommon.train_step = before\n'
    status, wrote = execute(kernel, f"{code}print('open bars:', len(tqdm._instances))")
    assert status == "ok" and "stopped before the first epoch finished" in wrote and "open bars: 0" in wrote, wrote
