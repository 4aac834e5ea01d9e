"""What a copied block survives: its new owner's compiler, exporter, precision, sizes and initialiser."""

import copy
import io
import sys

import pytest
import torch
from copied import COMPARE_POSITIONS, COPIED, maps, moved
from helpers import NETWORKS, build
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

every_block = pytest.mark.parametrize("name", COPIED)
SIZES = [(2, 16, 32, 32), (3, 16, 20, 28), (1, 16, 9, 5)]  # the first is the one that a block is captured with
DYNAMIC = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)


@every_block
def test_export_with_sizes_that_change(name):
    block = moved(name)
    exported = torch.export.export(block, (maps(*SIZES[0]),), dynamic_shapes=(DYNAMIC,)).module()
    for size in SIZES:
        torch.testing.assert_close(exported(maps(*size)), block(maps(*size)))


@every_block
def test_compile_and_train_with_sizes_that_change(name):
    """In one graph; without code generation, which would need a C++ compiler."""
    torch._dynamo.reset()
    network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), moved(name))
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    for size in SIZES[:2]:  # the second compiles for sizes that change; another would be a third compilation
        gradients = []
        for model in (compiled, network):
            model.zero_grad()
            model(maps(*size)).square().mean().backward()
            gradients.append([parameter.grad for parameter in network.parameters()])
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="PyTorch has no TorchScript for this Python")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
@every_block
def test_torchscript_saved_and_loaded(name, how):
    block, file = moved(name), io.BytesIO()
    captured = torch.jit.script(block) if how == "script" else torch.jit.trace(block, maps(*SIZES[0]))
    torch.jit.save(captured, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for size in [*SIZES, SIZES[0]]:  # it is specialised in its first runs
        torch.testing.assert_close(loaded(maps(*size)), block(maps(*size)))
    loaded(maps(*SIZES[0])).sum().backward()


@every_block
def test_symbolic_trace(name):
    block = moved(name)
    traced = torch.fx.symbolic_trace(block)
    for size in SIZES:
        torch.testing.assert_close(traced(maps(*size)), block(maps(*size)))


@pytest.mark.parametrize("side", [32, 224, 256])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_block
def test_low_precision(name, dtype, side):
    if name in COMPARE_POSITIONS and side > 32:
        pytest.skip("its weights would take 10 GB")
    x = maps(1, 16, side, side).to(dtype)
    for block, close in ((COPIED[name](16), 0.02), (moved(name), 0.05)):
        expected = block(x.float())
        y = copy.deepcopy(block).to(dtype)(x)
        assert y.dtype == dtype
        if name == "STN" and close == 0.05:  # half a pixel may change all of a map of noise
            expected, y = (block.to(map.dtype).theta(map) for map in (x.float(), x))
        assert (y.float() - expected).abs().mean() < close * expected.abs().mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_block
def test_autocast(name, dtype):
    """Of float32 maps, and of maps that come in low precision from the layer before."""
    for block in (COPIED[name](16), moved(name)):
        side = 32 if name in COMPARE_POSITIONS else 224
        for x in (maps(1, 16, side, side), maps(1, 16, side, side).to(dtype)):
            with torch.autocast("cpu", dtype):
                y = block(x)
            expected = block(x.float())
            assert (y.float() - expected).abs().mean() < 0.03 * expected.abs().mean()
            y.float().sum().backward()
            assert all(parameter.grad.isfinite().all() for parameter in block.parameters())


@every_block
def test_float64_stays_float64(name):
    block = moved(name).double()
    y = block(maps(2, 16, 20, 28).double())
    assert y.dtype == torch.float64 and not y.float().double().equal(y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("side", [192, 256, 640])
def test_a_fresh_stn_in_low_precision_returns_its_input(dtype, side):
    x = maps(1, 3, side, side).to(dtype)
    torch.testing.assert_close(COPIED["STN"]().to(dtype)(x), x, atol=2e-2, rtol=0)
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(COPIED["STN"]()(x.float()), x.float(), atol=1e-3, rtol=0)


@every_block
def test_meta_device(name):
    with torch.device("meta"):
        assert COPIED[name](16)(torch.empty(2, 16, 8, 8)).shape == (2, 16, 8, 8)


@pytest.mark.parametrize("size", [(0, 16, 8, 8), (1, 16, 1, 1), (2, 16, 1, 7)])
@every_block
def test_empty_batches_and_single_positions(name, size):
    y = moved(name)(maps(*size).requires_grad_())
    assert y.shape == size
    y.sum().backward()


@every_block
def test_copies_and_loaded_weights_are_the_same_block(name):
    block, x = moved(name), maps(2, 16, 8, 8)
    loaded = COPIED[name](16)
    loaded.load_state_dict(block.state_dict(), strict=True)
    for same in (copy.deepcopy(block), loaded):
        assert same(x).equal(block(x))


@every_block
def test_no_parameter_is_a_scalar(name):
    """Wrappers that shard parameters refuse those."""
    assert all(parameter.dim() > 0 for parameter in COPIED[name](16).parameters())


@pytest.mark.parametrize("name", ["SelfAttention", "MultiHeadAttention", "STN"])
def test_an_initialiser_of_all_layers_leaves_the_identity(name):
    def initialise(layer: nn.Module) -> None:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.ones_(layer.bias)

    block, x = COPIED[name](16), maps(2, 16, 12, 8)
    block.apply(initialise)
    torch.testing.assert_close(block(x), x, atol=1e-4, rtol=1e-4)


@every_block
def test_vmap_over_images(name):
    block, x = moved(name), maps(3, 16, 8, 8)
    each = torch.func.vmap(lambda x: block(x[None])[0])(x)
    torch.testing.assert_close(each, block(x), atol=1e-5, rtol=1e-4)


# ---- the scripts' whole networks -------------------------------------------------------------------------

IMAGES = maps(2, 3, 32, 32), maps(5, 3, 32, 32)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_exports_and_traces(name):
    network = build(name).eval()
    exported = torch.export.export(network, IMAGES[:1], dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    features = create_feature_extractor(network, {"features": "map", "classifier": "logits"})
    for images in IMAGES:
        torch.testing.assert_close(exported(images), network(images))
        assert features(images)["logits"].equal(network(images))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_backward_hooks(name):
    """As tools that explain a network's answer set them, on any layer."""
    network, seen = build(name), []
    layers = [layer for layer in network.modules() if not list(layer.children())]
    for layer in layers:
        layer.register_full_backward_hook(lambda layer, *_: seen.append(layer))
    network(IMAGES[0].clone().requires_grad_()).sum().backward()
    assert set(seen) == set(layers)  # CBAM's MLP is used twice, and seen twice
