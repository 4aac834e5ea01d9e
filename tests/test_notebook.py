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


@pytest.mark.parametrize("how", ["%run", "!{sys.executable}"])
def test_a_script_runs_from_a_cell(how, kernel, tmp_path):
    tree = make_tree(tmp_path / "tree", train=4, test=2)
    out = tmp_path / "out"
    code = f'import sys\n{how} "{ROOT / "SE-Attention.py"}" --data "{tree}" --epochs 1 --out "{out}"'
    status, wrote = execute(kernel, code)
    assert status == "ok" and "Traceback" not in wrote, wrote
    assert "Epoch [1/1] Train Loss" in wrote and "Done: see" in wrote, wrote
    assert (out / "SE-Attention.png").exists() and (out / "SE-Attention.attention.png").exists()
