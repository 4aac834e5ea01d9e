"""The blocks against independent computations, on maps of every kind."""

import math

import pytest
import torch
from helpers import load
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
        block.bias.copy_(torch.tensor(theta).view(2, 3))
    torch.testing.assert_close(block(x), known(x), atol=1e-5, rtol=1e-5)


def test_stn_localisation_network():
    block, x = make("STN").double(), maps(2, 16, 32, 32).double()
    conv1, conv2, hidden = (m for m in block.localisation if isinstance(m, nn.Conv2d | nn.Linear))
    y = F.max_pool2d(F.conv2d(x, conv1.weight, conv1.bias, padding=1).relu(), 2)
    y = F.max_pool2d(F.conv2d(y, conv2.weight, conv2.bias, padding=1).relu(), 2)
    assert y.shape == (2, 10, 8, 8)
    theta = hidden(y.flatten(1)).relu() @ block.weight.flatten(0, 1).T + block.bias.flatten()
    torch.testing.assert_close(block.theta(x), theta.reshape(2, 2, 3))
    torch.testing.assert_close(block.theta(x.repeat_interleave(3, 2).repeat_interleave(3, 3)), block.theta(x))


def test_stn_samples_along_torch_s_own_grid():
    block, x = make("STN").double(), maps(2, 16, 33, 12).double()
    grid = F.affine_grid(block.theta(x), [*x.shape], align_corners=False)
    torch.testing.assert_close(block(x), F.grid_sample(x, grid, align_corners=False))


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


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SelfAttention(20), "reduction.*8.*positive divisor.*20"),
        (lambda: SelfAttention(4), "8.*divisor.*4"),
        (lambda: SelfAttention(32, 0), "0.*positive divisor"),
        (lambda: SelfAttention(32, -8), "-8.*positive divisor"),
        (lambda: SelfAttention(0), "8.*divisor.*0"),
        (lambda: MultiHeadAttention(18), "num_heads.*4.*positive divisor.*18"),
        (lambda: MultiHeadAttention(32, 0), "0.*positive divisor"),
        (lambda: MultiHeadAttention(32, -4), "-4.*positive divisor"),
        (lambda: SEAttention(16, 0), "reduction.*0.*positive"),
        (lambda: SEAttention(-16), "channels.*-16.*positive"),
        (lambda: ChannelAttention(16, -1), "-1.*positive"),
        (lambda: CBAM(16, 0), "0.*positive"),
        (lambda: STN(0), "channels.*0.*positive"),
        (lambda: ECAAttention(0, None), "channels.*0.*positive"),
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
