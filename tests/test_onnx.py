"""The blocks and networks as ONNX files, run by onnxruntime: through `torch.export`, which writes them."""

import warnings

import pytest
import torch
from copied import COPIED, maps, moved
from helpers import NETWORKS, build
from test_readme import SMALL, recipe
from torch import nn

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


def check(model: nn.Module, path, dynamic: dict, exported: torch.Tensor, *others: torch.Tensor) -> None:
    """Exports a model with a tensor, and compares what the file gives for that and for others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(model.eval(), (exported,), path, dynamo=True, dynamic_shapes=(dynamic,), verbose=False)
    session = onnxruntime.InferenceSession(path)
    [name] = [given.name for given in session.get_inputs()]
    for x in (exported, *others):
        [y] = session.run(None, {name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), model(x).detach(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", COPIED)
def test_a_block_at_other_sizes(name, tmp_path):
    others = maps(3, 16, 20, 28), maps(1, 16, 40, 33)
    check(moved(name), tmp_path / "block.onnx", {0: "n", 2: "h", 3: "w"}, maps(2, 16, 32, 32), *others)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_at_other_batch_sizes(name, tmp_path):
    check(build(name), tmp_path / "network.onnx", {0: "n"}, maps(2, 3, 32, 32), maps(5, 3, 32, 32))


@pytest.mark.parametrize("line", ["block.bn2 =", "network.layer3 ="])
def test_the_readme_s_recipe(line, tmp_path):
    names = {}
    exec(recipe(line), names)
    check(names["network"], tmp_path / "network.onnx", {0: "n"}, SMALL, SMALL[:1])
