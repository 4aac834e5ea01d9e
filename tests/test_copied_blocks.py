"""What a copied block survives: its new owner's compiler, exporters, precision and sizes."""

import copy
import io
import pickle
import sys
from collections.abc import Callable

import pytest
import torch
from copied import BLOCKS, STN, MultiHeadAttention, SelfAttention, every_block, maps, moved
from torch import Tensor, nn

SIZES = [(2, 16, 20, 28), (3, 16, 32, 24), (1, 16, 9, 5)]  # the first is the one that a block is captured with


def saved_and_loaded(captured: torch.jit.ScriptModule) -> Callable:
    file = io.BytesIO()
    torch.jit.save(captured, file)
    file.seek(0)
    return torch.jit.load(file)


def exported(block: nn.Module, x: Tensor) -> nn.Module:
    sizes = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
    return torch.export.export(block, (x,), dynamic_shapes=(sizes,)).module()


CAPTURES = {
    # in one graph; without code generation, which would need a C++ compiler
    "compile": lambda block, x: torch.compile(block, fullgraph=True, dynamic=True, backend="eager"),
    "export": exported,
    "script": lambda block, x: saved_and_loaded(torch.jit.script(block)),
    "trace": lambda block, x: saved_and_loaded(torch.jit.trace(block, x)),
    "fx": lambda block, x: torch.fx.symbolic_trace(block),
    "vmap": lambda block, x: lambda x: torch.func.vmap(lambda image: block(image[None])[0])(x),
    "pickle": lambda block, x: pickle.loads(pickle.dumps(block)),
}


@pytest.mark.filterwarnings("ignore")  # of what is deprecated or slow
@pytest.mark.parametrize("how", CAPTURES)
@every_block
def test_captured_with_sizes_that_change(make, how):
    """The results and their gradients are the block's."""
    if how in ("script", "trace") and sys.version_info >= (3, 14):
        pytest.skip("PyTorch has no TorchScript for this Python")
    block = moved(make)
    captured = CAPTURES[how](block, maps(*SIZES[0]))
    for size in SIZES[:2] if how == "compile" else SIZES:  # a batch of 1 would be compiled once more
        results = []
        for network in (captured, block):
            x = maps(*size).requires_grad_()
            y = network(x)
            y.square().mean().backward()
            results.append((y, x.grad))
        torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)


class SideBySide(nn.ModuleList):
    """All blocks in one file: what ONNX takes a second for is there once."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [block(x) for block in self]


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_at_other_sizes(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, file, sizes = SideBySide(map(moved, BLOCKS)), tmp_path / "model.onnx", ({0: "n", 2: "h", 3: "w"},)
    torch.onnx.export(model, (maps(*SIZES[0]),), file, dynamo=True, dynamic_shapes=sizes, verbose=False)
    session = onnxruntime.InferenceSession(file)
    [name] = [given.name for given in session.get_inputs()]
    for x in (maps(*size) for size in SIZES):
        for y, expected in zip(session.run(None, {name: x.numpy()}), model(x), strict=True):
            torch.testing.assert_close(torch.from_numpy(y), expected.detach(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_block
def test_low_precision(make, dtype):
    """Cast, and under autocast: of float32 maps, and of maps that come in low precision from the layer before."""
    fresh, used = make(16), moved(make)
    side = 16 if make in (SelfAttention, MultiHeadAttention) else 224
    x = maps(1, 16, side, side)
    for block in (fresh, used):
        for given in (x, x.to(dtype)):
            with torch.autocast("cpu", dtype):
                y = block(given)
            expected = block(given.float())
            assert (y.float() - expected).abs().mean() < 0.03 * expected.abs().mean()
        y.float().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in block.parameters())
        half = copy.deepcopy(block).to(dtype)
        y = half(x.to(dtype))
        assert y.dtype == dtype
        if make is STN and block is used:  # half a pixel may change all of a map of noise
            expected, y = block.theta(given.float()), half.theta(given)
        assert (y.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_no_parameter_is_a_scalar():
    """Wrappers that shard parameters refuse those."""
    assert all(parameter.dim() > 0 for make in BLOCKS for parameter in make(16).parameters())


@every_block
def test_backward_hooks_reach_every_layer(make):
    """As tools set them that explain a network's answer; CBAM's MLP is used twice."""
    block, seen = moved(make), []
    layers = [layer for layer in block.modules() if not list(layer.children())]
    for layer in layers:
        layer.register_full_backward_hook(lambda layer, *_: seen.append(layer))
    block(maps(2, 16, 8, 8).requires_grad_()).sum().backward()
    assert set(seen) == set(layers)
