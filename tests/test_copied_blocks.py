"""What a copied block survives: its new owner's compiler, exporters, precision and sizes."""

import copy
import io
import pickle
import sys
from collections.abc import Callable

import pytest
import torch
from copied import BLOCKS, COMPARE_POSITIONS, SCRIPTS, STN, every_block, maps, moved
from helpers import load
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

# ---- what tools make of it, with sizes that change -------------------------------------------------------

SIZES = [(2, 16, 20, 28), (3, 16, 32, 24), (1, 16, 9, 5)]  # the first is the one that a block is captured with
DYNAMIC = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}


def saved_and_loaded(captured: torch.jit.ScriptModule) -> Callable:
    file = io.BytesIO()
    torch.jit.save(captured, file)
    file.seek(0)
    return torch.jit.load(file)


CAPTURES = {
    # in one graph; without code generation, which would need a C++ compiler
    "compile": lambda block, x: torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager"),
    "export": lambda block, x: torch.export.export(block, (x,), dynamic_shapes=(DYNAMIC,)).module(),
    "script": lambda block, x: saved_and_loaded(torch.jit.script(block)),
    "trace": lambda block, x: saved_and_loaded(torch.jit.trace(block, x)),
    "fx": lambda block, x: torch.fx.symbolic_trace(block),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("how", CAPTURES)
@every_block
def test_captured_with_sizes_that_change(make, how):
    """The results and their gradients are the block's."""
    if how in ("script", "trace") and sys.version_info >= (3, 14):
        pytest.skip("PyTorch has no TorchScript for this Python")
    block = moved(make)
    captured = CAPTURES[how](block, maps(*SIZES[0]))
    for size in SIZES[:2] if how == "compile" else [*SIZES, SIZES[0]]:  # a batch of 1 would be compiled once more
        results = []
        for network in (captured, block):
            x = maps(*size).requires_grad_()
            y = network(x)
            y.square().mean().backward()
            results.append((y, x.grad))
        torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)


class SideBySide(nn.ModuleList):
    """Several models in one file, since most of the time that ONNX takes does not depend on what is in it."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [model(x) for model in self]


@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("what", ["blocks", "networks"])
def test_onnx_at_other_sizes(what, tmp_path):
    """Blocks for any batch, height and width, the scripts' networks for any batch."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    if what == "blocks":
        model, sizes, dynamic = SideBySide(map(moved, BLOCKS.values())), SIZES, {0: "n", 2: "h", 3: "w"}
    else:
        networks = (load(script).build(num_classes=10).eval() for script in ("CNN", *SCRIPTS))
        model, sizes, dynamic = SideBySide(networks), [(2, 3, 32, 32), (5, 3, 32, 32)], {0: "n"}
    file = tmp_path / "model.onnx"
    torch.onnx.export(model, (maps(*sizes[0]),), file, dynamo=True, dynamic_shapes=(dynamic,), verbose=False)
    session = onnxruntime.InferenceSession(file)
    [name] = [given.name for given in session.get_inputs()]
    for x in (maps(*size) for size in sizes):
        for y, expected in zip(session.run(None, {name: x.numpy()}), model(x), strict=True):
            torch.testing.assert_close(torch.from_numpy(y), expected.detach(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("script", ["CNN", *SCRIPTS])
def test_a_script_s_network_takes_tools_that_look_inside(script):
    """Features of its layers, and backward hooks on any, as tools that explain a network's answer set them."""
    network, images = load(script).build(num_classes=10).eval(), maps(2, 3, 32, 32)
    features = create_feature_extractor(network, {"features": "map", "classifier": "logits"})
    assert features(images)["logits"].equal(network(images))
    seen, layers = [], [layer for layer in network.modules() if not list(layer.children())]
    for layer in layers:
        layer.register_full_backward_hook(lambda layer, *_: seen.append(layer))
    network(images.requires_grad_()).sum().backward()
    assert set(seen) == set(layers)  # CBAM's MLP is used twice, and seen twice


# ---- its precision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_block
def test_low_precision(make, dtype):
    """Cast, and under autocast: of float32 maps, and of maps that come in low precision from the layer before."""
    fresh, used = make(16), moved(make)
    side = 16 if isinstance(fresh, COMPARE_POSITIONS) else 224
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
        if isinstance(block, STN) and block is used:  # half a pixel may change all of a map of noise
            expected, y = block.theta(given.float()), half.theta(given)
        assert (y.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("side", [192, 640])
def test_a_fresh_stn_in_low_precision_returns_its_input(dtype, side):
    x = maps(1, 3, side, side).to(dtype)
    torch.testing.assert_close(STN().to(dtype)(x), x, atol=2e-2, rtol=0)
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(STN()(x.float()), x.float(), atol=1e-3, rtol=0)


# ---- its life as a module --------------------------------------------------------------------------------


@every_block
def test_meta_device(make):
    with torch.device("meta"):
        assert make(16)(torch.empty(2, 16, 8, 8)).shape == (2, 16, 8, 8)


@every_block
def test_copies_and_loaded_weights_are_the_same_block(make):
    block, x = moved(make), maps(2, 16, 8, 8)
    loaded = make(16)
    loaded.load_state_dict(block.state_dict(), strict=True)
    for same in (copy.deepcopy(block), pickle.loads(pickle.dumps(block)), loaded):
        assert same(x).equal(block(x))


def test_no_parameter_is_a_scalar():
    """Wrappers that shard parameters refuse those."""
    assert all(parameter.dim() > 0 for make in BLOCKS.values() for parameter in make(16).parameters())


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@every_block
def test_vmap_over_images(make):
    block, x = moved(make), maps(3, 16, 8, 8)
    each = torch.func.vmap(lambda x: block(x[None])[0])(x)
    torch.testing.assert_close(each, block(x), atol=1e-5, rtol=1e-4)
