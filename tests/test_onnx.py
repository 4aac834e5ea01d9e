"""The blocks and networks as ONNX files, run by onnxruntime: through `torch.export`, which writes them."""

import warnings

import pytest
import torch
from copied import BLOCKS, SCRIPTS, maps, moved
from helpers import load
from torch import nn

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


class SideBySide(nn.Module):
    """Several in one file, since most of an export's time does not depend on what is in it."""

    def __init__(self, models: list[nn.Module]):
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [model(x) for model in self.models]


def check(models: list[nn.Module], path, dynamic: dict, exported: torch.Tensor, *others: torch.Tensor) -> None:
    """Exports models with a tensor, and compares what the file gives for that and for others."""
    model = SideBySide(models).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(model, (exported,), path, dynamo=True, dynamic_shapes=(dynamic,), verbose=False)
    session = onnxruntime.InferenceSession(path)
    [name] = [given.name for given in session.get_inputs()]
    for x in (exported, *others):
        for y, expected in zip(session.run(None, {name: x.numpy()}), model(x), strict=True):
            torch.testing.assert_close(torch.from_numpy(y), expected.detach(), atol=1e-4, rtol=1e-3)


def test_the_blocks_at_other_sizes(tmp_path):
    blocks = [moved(make) for make in BLOCKS.values()]
    others = maps(3, 16, 20, 28), maps(1, 16, 40, 33)
    check(blocks, tmp_path / "blocks.onnx", {0: "n", 2: "h", 3: "w"}, maps(2, 16, 32, 32), *others)


def test_the_scripts_networks_at_other_batch_sizes(tmp_path):
    networks = [load(script).build(num_classes=10) for script in ("CNN", *SCRIPTS)]
    check(networks, tmp_path / "networks.onnx", {0: "n"}, maps(2, 3, 32, 32), maps(5, 3, 32, 32))
