"""The blocks against independent computations, on maps of every kind, and cut out of their scripts."""

import ast
import math
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, load
from torch import nn
from torch.nn import functional as F

SelfAttention = load("Self-Attention").SelfAttention
MultiHeadAttention = load("Multi-Head Attention").MultiHeadAttention
SEAttention = load("SE-Attention").SEAttention
ECAAttention = load("ECA-Attention").ECAAttention
CBAM, ChannelAttention, SpatialAttention = (
    getattr(load("CBAM-Attention"), name) for name in ("CBAM", "ChannelAttention", "SpatialAttention")
)
STN = load("STN-Attention").STN

BLOCKS = {
    "SelfAttention": lambda: SelfAttention(16),
    "MultiHeadAttention": lambda: MultiHeadAttention(16),
    "SEAttention": lambda: SEAttention(16),
    "ECAAttention": lambda: ECAAttention(16),
    "ChannelAttention": lambda: ChannelAttention(16),
    "SpatialAttention": lambda: SpatialAttention(),
    "CBAM": lambda: CBAM(16),
    "STN": lambda: STN(16),
}


def make(name: str) -> nn.Module:
    """A block that has left its starting point, where some blocks are the identity."""
    torch.manual_seed(0)
    block = BLOCKS[name]()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return block


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


# ---- the formulas, in float64, written out from the weights --------------------------------------------


def tokens(x):
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])


def test_self_attention_is_its_formula():
    block, x = make("SelfAttention").double(), maps(2, 16, 5, 3).double()
    expected = x.clone()
    for n, t in enumerate(tokens(x)):
        q, k, v = (t @ layer.weight.T + layer.bias for layer in (block.query, block.key, block.value))
        scores = torch.exp(q @ k.T / math.sqrt(2))  # d = 16 / 8
        attention = scores / scores.sum(1, keepdim=True)
        torch.testing.assert_close(block.weights(x)[n], attention)
        expected[n] += block.gamma * (attention @ v).T.reshape(16, 5, 3)
    torch.testing.assert_close(block(x), expected)


def test_multi_head_attention_is_torch_s_own():
    block, x = make("MultiHeadAttention").double(), maps(2, 16, 5, 3).double()
    reference = nn.MultiheadAttention(16, 4, batch_first=True).double()
    reference.load_state_dict(
        {
            "in_proj_weight": block.qkv.weight,
            "in_proj_bias": block.qkv.bias,
            "out_proj.weight": block.proj.weight,
            "out_proj.bias": block.proj.bias,
        }
    )
    t = tokens(x)
    out, attention = reference(t, t, t, average_attn_weights=False)
    torch.testing.assert_close(block.weights(x), attention)
    torch.testing.assert_close(block(x), x + block.gamma * out.transpose(1, 2).reshape(x.shape))


def test_se_is_its_formula():
    block, x = make("SEAttention").double(), maps(2, 16, 5, 3).double()
    w1, w2 = (layer.weight for layer in block.excitation if isinstance(layer, nn.Linear))
    gate = 1 / (1 + torch.exp(-(x.mean((2, 3)) @ w1.T).clamp(min=0) @ w2.T))
    torch.testing.assert_close(block.gate(x), gate)
    torch.testing.assert_close(block(x), torch.einsum("nchw,nc->nchw", x, gate))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_eca_is_its_formula(size):
    torch.manual_seed(0)
    block, x = ECAAttention(16, size).double(), maps(2, 16, 5, 3).double()
    padded = F.pad(x.mean((2, 3)), (size // 2, size // 2))
    w = block.conv.weight.flatten()
    gate = torch.stack([padded[:, c : c + size] @ w for c in range(16)], dim=1).sigmoid()
    torch.testing.assert_close(block.gate(x), gate)
    torch.testing.assert_close(block(x), torch.einsum("nchw,nc->nchw", x, gate))


@pytest.mark.parametrize(
    ("channels", "size"), [(1, 3), (16, 3), (64, 3), (127, 3), (128, 5), (512, 5), (2048, 7), (8192, 7)]
)
def test_eca_adaptive_kernel_size(channels, size):
    t = int((math.log2(channels) + 1) / 2)
    assert size == max(3, t if t % 2 else t + 1)
    assert ECAAttention(channels, None).conv.kernel_size == (size,)


def test_cbam_is_its_formula():
    block, x = make("CBAM").double(), maps(2, 16, 9, 4).double()
    w1, w2 = block.channel.mlp[0].weight, block.channel.mlp[2].weight
    mlp = lambda s: (s @ w1.T).clamp(min=0) @ w2.T  # noqa: E731
    channel = (mlp(x.mean((2, 3))) + mlp(x.flatten(2).max(2).values)).sigmoid()
    torch.testing.assert_close(block.channel.gate(x), channel)
    z = torch.einsum("nchw,nc->nchw", x, channel)
    pooled = F.pad(torch.stack([z.mean(1), z.max(1).values], 1), (3, 3, 3, 3))
    patches = pooled.unfold(2, 7, 1).unfold(3, 7, 1)  # (N, 2, H, W, 7, 7)
    spatial = torch.einsum("nchwij,cij->nhw", patches, block.spatial.conv.weight[0]).sigmoid()
    torch.testing.assert_close(block.spatial.gate(z)[:, 0], spatial)
    torch.testing.assert_close(block(x), torch.einsum("nchw,nhw->nchw", z, spatial))


@pytest.mark.parametrize(
    ("theta", "known"),
    [
        ([-1, 0, 0, 0, 1, 0], lambda x: x.flip(3)),  # mirror
        ([0, 1, 0, -1, 0, 0], lambda x: torch.rot90(x, -1, (2, 3))),  # a quarter turn clockwise
        ([1, 0, 0.25, 0, 1, 0], lambda x: F.pad(x[:, :, :, 2:], (0, 2))),  # a quarter of half of 16 pixels
    ],
)
def test_stn_known_transforms(theta, known):
    block, x = STN(3), maps(2, 3, 16, 16)
    with torch.no_grad():
        block.localisation[-1].bias.copy_(torch.tensor(theta))
    torch.testing.assert_close(block(x), known(x), atol=1e-5, rtol=1e-5)


def test_stn_localisation_network():
    block, x = make("STN").double(), maps(2, 16, 32, 32).double()
    conv1, conv2, hidden, last = (m for m in block.localisation if isinstance(m, nn.Conv2d | nn.Linear))
    y = F.max_pool2d(F.conv2d(x, conv1.weight, conv1.bias, padding=1).relu(), 2)
    y = F.max_pool2d(F.conv2d(y, conv2.weight, conv2.bias, padding=1).relu(), 2)
    assert y.shape == (2, 10, 8, 8)  # so the adaptive pool has nothing to do
    theta = last(hidden(y.flatten(1)).relu()).reshape(2, 2, 3)
    torch.testing.assert_close(block.theta(x), theta)


# ---- what holds for every block --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SelfAttention", "MultiHeadAttention", "STN"])
def test_starts_as_the_identity(name):
    x = maps(2, 16, 8, 12)
    torch.testing.assert_close(BLOCKS[name]()(x), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["SEAttention", "ECAAttention", "ChannelAttention", "SpatialAttention"])
def test_gates_lie_between_0_and_1(name):
    gate = make(name).gate(maps(4, 16, 8, 8))
    assert gate.shape == ((4, 1, 8, 8) if name == "SpatialAttention" else (4, 16))
    assert (gate > 0).all() and (gate < 1).all() and gate.std() > 0


@pytest.mark.parametrize("name", ["SelfAttention", "MultiHeadAttention"])
def test_attention_rows_sum_to_1(name):
    weights = make(name).weights(maps(4, 16, 4, 6))
    assert weights.shape[-2:] == (24, 24) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients(name):
    block = make(name).double()
    x = maps(1, 16, 4, 6).double().requires_grad_()
    parameters = list(block.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: block(x), (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (3, 16, 5, 9), (2, 16, 33, 12)])
def test_any_map(name, shape):
    block, x = make(name).double(), maps(*shape).double()
    y = block(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y[:1], block(x[:1]))  # images do not see each other
    channels_last = block.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last, y)


@pytest.mark.parametrize("name", BLOCKS)
def test_autocast(name):
    block, x = make(name), maps(2, 16, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    assert (y.float() - block(x)).abs().mean() < 0.05
    y.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters())


@pytest.mark.parametrize("name", BLOCKS)
def test_compile(name):
    """In one graph; without code generation, which would need a C++ compiler."""
    block, x = make(name), maps(2, 16, 8, 8)
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), block(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SelfAttention(20), "20.*multiple of reduction.*8"),
        (lambda: SelfAttention(4), "4.*multiple"),
        (lambda: MultiHeadAttention(18), "18.*multiple of num_heads.*4"),
        (lambda: ECAAttention(16, 4), "4.*odd"),
        (lambda: ECAAttention(16, -1), "-1.*positive odd"),
        (lambda: SpatialAttention(6), "6.*odd"),
        (lambda: SpatialAttention(0), "0.*positive odd"),
        (lambda: CBAM(16, kernel_size=2), "2.*odd"),
    ],
)
def test_refuses_senseless_arguments(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("channels", [1, 8, 24, 40, 72])
def test_gates_take_any_number_of_channels(channels):
    """MobileNet and EfficientNet have such; the hidden layer then has C / 16 units, rounded down, at least one."""
    for block in (SEAttention(channels), ChannelAttention(channels), CBAM(channels)):
        assert block(maps(2, channels, 4, 6)).shape == (2, channels, 4, 6)
        hidden = next(layer.out_features for layer in block.modules() if isinstance(layer, nn.Linear))
        assert hidden == max(1, channels // 16)


def test_stn_keeps_its_frame_out_of_bfloat16():
    """Between layers whose results are bfloat16, too, theta is computed in float32."""
    block, x = make("STN"), maps(2, 16, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        theta = block.theta(x.bfloat16())
        assert theta.dtype == torch.float32 and block(x.bfloat16()).shape == x.shape
    torch.testing.assert_close(theta, block.theta(x.bfloat16().float()))


SOURCES = {
    "Self-Attention": "SelfAttention(16)",
    "Multi-Head Attention": "MultiHeadAttention(16)",
    "SE-Attention": "SEAttention(16)",
    "ECA-Attention": "ECAAttention(16)",
    "CBAM-Attention": "CBAM(16)",
    "STN-Attention": "STN(16)",
}


def test_can_be_cut_out(tmp_path):
    """The block's class, pasted into an empty file below imports of torch and math alone, works there."""
    pasted = []
    for script, call in SOURCES.items():
        source = (ROOT / f"{script}.py").read_text(encoding="utf-8")
        body = ast.parse(source).body
        pasted += [ast.get_source_segment(source, node) for node in body if isinstance(node, ast.ClassDef)]
        pasted.append(f"assert {call}(torch.randn(2, 16, 8, 8)).shape == (2, 16, 8, 8)")
    imports = "import math\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
    (tmp_path / "pasted.py").write_text(imports + "\n\n".join(pasted), encoding="utf-8")
    subprocess.run([sys.executable, "-I", "pasted.py"], cwd=tmp_path, check=True)
