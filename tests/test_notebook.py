"""Scripts run from a notebook's cells, in a real kernel."""

import pytest
from helpers import ROOT, make_tree

pytest.importorskip("ipykernel")
manager = pytest.importorskip("jupyter_client.manager")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which the kernel works, with a small image tree in it."""
    folder = tmp_path_factory.mktemp("notebook")
    make_tree(folder / "tree", train=4, test=2)
    return folder


@pytest.fixture(scope="module")
def execute(folder):
    """Runs a cell: how it ended, and everything that it wrote."""
    kernel, client = manager.start_new_kernel(kernel_name="python3", cwd=str(folder))

    def execute(code: str) -> tuple[str, str]:
        wrote = []

        def note(message: dict) -> None:
            content = message["content"]
            wrote.append(content["text"] if "text" in content else "\n".join(content.get("traceback", [])))

        reply = client.execute_interactive(code, output_hook=note, timeout=120)
        return reply["content"]["status"], "".join(wrote)

    execute(f"import sys\nsys.path.insert(0, {str(ROOT)!r})")
    yield execute
    client.stop_channels()
    kernel.shutdown_kernel(now=True)


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


def test_a_script_runs_from_a_cell(execute, folder):
    status, wrote = execute(f'%run "{ROOT / "SE-Attention.py"}" --data tree --epochs 1 --out "my plots"')
    assert status == "ok" and "Traceback" not in wrote, wrote
    assert "Epoch [1/1] Train Loss" in wrote and "the same network without the block: %run " in wrote, wrote
    assert (folder / "my plots" / "SE-Attention.png").exists()


def test_a_block_from_a_cell(execute, folder):
    execute(BLOCK)
    status, wrote = execute("run(build)")
    assert (status, wrote.count("\n")) == ("ok", 1) and 'run(build, name="Mine", argv=["--data", "shapes"])' in wrote
    status, wrote = execute('run(build, "Plain", "Mine", ["--data", "tree", "--epochs", 1])')
    assert status == "ok" and "Epoch [1/1]" in wrote and (folder / "plots" / "Mine.png").exists(), wrote
    said = wrote.partition("without the block: ")[2].partition("; then")[0]
    assert said.startswith("run(build, control='Plain', name='Mine', argv=[") and "'--control']" in said
    status, wrote = execute(said)
    assert status == "ok" and (folder / "plots" / "Plain.png").exists(), wrote
    for typed in ('["--epochs", "none"]', '["--data", "nowhere"]'):
        status, wrote = execute(f'run(build, name="Mine", argv={typed})')
        assert status == "ok" and wrote.count("\n") == 1 and "SystemExit" not in wrote, wrote
