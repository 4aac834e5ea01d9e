"""The blocks against independent computations, on maps of every kind."""

import math
from functools import partial

import pytest
import torch
from copied import (
    CBAM,
    STN,
    ChannelAttention,
    ECAAttention,
    MultiHeadAttention,
    SEAttention,
    SelfAttention,
    SpatialAttention,
    every_block,
    maps,
    moved,
)
from torch import nn
from torch.nn import functional as F

from common import CNN

every_scale = pytest.mark.parametrize("scale", [1, 2])
MAPS = maps(2, 16, 5, 3).double()


def tokens(x):
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])


def test_self_attention_is_its_formula():
    block, expected = moved(SelfAttention).double(), MAPS.clone()
    for n, t in enumerate(tokens(MAPS)):
        q, k, v = (t @ layer.weight.T + layer.bias for layer in (block.query, block.key, block.value))
        scores = torch.exp(q @ k.T / math.sqrt(2))  # d = 16 / 8
        attention = scores / scores.sum(1, keepdim=True)
        torch.testing.assert_close(block.weights(MAPS)[n], attention)
        expected[n] += block.gamma * (attention @ v).T.reshape(16, 5, 3)
    torch.testing.assert_close(block(MAPS), expected)


def test_multi_head_attention_is_torch_s_own():
    block = moved(MultiHeadAttention).double()
    reference = nn.MultiheadAttention(16, 4, batch_first=True).double()
    ours = (block.qkv.weight, block.qkv.bias, block.proj.weight, block.proj.bias)
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    reference.load_state_dict(dict(zip(names, ours, strict=True)))
    t = tokens(MAPS)
    out, attention = reference(t, t, t, average_attn_weights=False)
    torch.testing.assert_close(block.weights(MAPS), attention)
    torch.testing.assert_close(block(MAPS), MAPS + block.gamma * out.transpose(1, 2).reshape(MAPS.shape))


@every_scale
def test_se_is_its_formula(scale):
    block = moved(SEAttention, scale=scale).double()
    w1, w2 = (layer.weight for layer in block.excitation if isinstance(layer, nn.Linear))
    gate = scale / (1 + torch.exp(-(MAPS.mean((2, 3)) @ w1.T).clamp(min=0) @ w2.T))
    torch.testing.assert_close(block.gate(MAPS), gate)
    torch.testing.assert_close(block(MAPS), torch.einsum("nchw,nc->nchw", MAPS, gate))


@every_scale
@pytest.mark.parametrize("size", [1, 5])
def test_eca_is_its_formula(size, scale):
    block = moved(ECAAttention, kernel_size=size, scale=scale).double()
    padded = F.pad(MAPS.mean((2, 3)), (size // 2, size // 2))
    w = block.conv.weight.flatten()
    gate = scale * torch.stack([padded[:, c : c + size] @ w for c in range(16)], dim=1).sigmoid()
    torch.testing.assert_close(block.gate(MAPS), gate)
    torch.testing.assert_close(block(MAPS), torch.einsum("nchw,nc->nchw", MAPS, gate))


def test_eca_s_kernel_size_is_the_paper_s_unless_given():
    for channels, size in ((1, 3), (64, 3), (127, 3), (128, 5), (2048, 7)):
        assert ECAAttention(channels).conv.kernel_size == (size,)
    assert ECAAttention(512, 3).conv.kernel_size == (3,)


@every_scale
def test_cbam_is_its_formula(scale):
    """Each of the two gates has the scale, and the second sees what the first gives."""
    block, x = moved(CBAM, scale=scale).double(), maps(2, 16, 9, 4).double()
    w1, w2 = block.channel.mlp[0].weight, block.channel.mlp[2].weight
    mlp = lambda s: (s @ w1.T).clamp(min=0) @ w2.T  # noqa: E731
    channel = scale * (mlp(x.mean((2, 3))) + mlp(x.flatten(2).max(2).values)).sigmoid()
    torch.testing.assert_close(block.channel.gate(x), channel)
    z = torch.einsum("nchw,nc->nchw", x, channel)
    pooled = F.pad(torch.stack([z.mean(1), z.max(1).values], 1), (3, 3, 3, 3))
    patches = pooled.unfold(2, 7, 1).unfold(3, 7, 1)  # (N, 2, H, W, 7, 7)
    spatial = scale * torch.einsum("nchwij,cij->nhw", patches, block.spatial.conv.weight[0]).sigmoid()
    torch.testing.assert_close(block.spatial.gate(z)[:, 0], spatial)
    torch.testing.assert_close(block(x), torch.einsum("nchw,nhw->nchw", z, spatial))


def test_stn_s_transform_is_its_formula():
    block, x = moved(STN).double(), maps(2, 16, 32, 32).double()
    activation = partial(F.leaky_relu, negative_slope=0.1)
    conv1, conv2, hidden = (m for m in block.localisation if isinstance(m, nn.Conv2d | nn.Linear))
    y = F.max_pool2d(activation(F.conv2d(x, conv1.weight, conv1.bias, padding=1)), 2)
    y = F.max_pool2d(activation(F.conv2d(y, conv2.weight, conv2.bias, padding=1)), 2)
    h = activation(hidden(y.flatten(1)))
    change = torch.einsum("nk,ijk->nij", h, block.projection.view(2, 3, 32)) + block.offset.view(2, 3)
    torch.testing.assert_close(block.theta(x), torch.eye(2, 3) + change)
    torch.testing.assert_close(block.theta(x.repeat_interleave(3, 2).repeat_interleave(3, 3)), block.theta(x))


def test_stn_samples_along_torch_s_own_grid():
    block, x = moved(STN).double(), maps(2, 16, 33, 12).double()
    grid = F.affine_grid(block.theta(x), [*x.shape], align_corners=False)
    torch.testing.assert_close(block(x), F.grid_sample(x, grid, align_corners=False))


def every_matrix(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def every_attribute(network: nn.Module) -> None:
    for module in network.modules():
        for name in ("weight", "bias"):
            if getattr(module, name, None) is not None:
                nn.init.normal_(getattr(module, name), 0, 0.02)


@pytest.mark.parametrize("initialise", [lambda network: None, every_matrix, every_attribute])
def test_starts_as_the_identity_whatever_initialises_the_network(initialise):
    x = maps(2, 16, 16, 8)  # powers of two, whose pixels' centres are exact
    for make in (SelfAttention, MultiHeadAttention, STN):
        network = nn.Sequential(make(16))
        initialise(network)
        assert network(x).equal(x)


@every_block
def test_any_map(make):
    for shape in ((3, 16, 5, 9), (2, 16, 33, 12), (0, 16, 8, 8), (1, 16, 1, 1), (2, 16, 1, 7)):
        block, x = moved(make).double(), maps(*shape).double().requires_grad_()
        y = block(x)
        assert (y.shape, y.dtype) == (x.shape, torch.float64)
        torch.testing.assert_close(y[:1], block(x[:1]))  # images do not see each other
        channels_last = block.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(channels_last, y)
        y.sum().backward()
        assert all(parameter.grad is not None for parameter in block.parameters())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SelfAttention(20), "reduction.*8.*positive divisor.*20"),
        (lambda: MultiHeadAttention(18), "num_heads.*4.*positive divisor.*18"),
        (lambda: SEAttention(16, 0), "reduction.*0.*positive"),
        (lambda: CBAM(16, kernel_size=2), "2.*odd"),
        (lambda: ECAAttention(0), "channels.*0.*positive"),
        (lambda: ECAAttention(16, 4), "4.*odd"),
        (lambda: SpatialAttention(0), "0.*positive odd"),
        (lambda: STN(0), "channels.*0.*positive"),
        (lambda: CNN(()), "one to five"),
        (lambda: CNN(hidden=0), r"hidden \(0\)"),
        (lambda: CNN(dropout=1.0), r"dropout \(1.0\)"),
    ],
)
def test_refuses_senseless_arguments(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("channels", [1, 8, 24, 40])
def test_gates_take_any_number_of_channels(channels):
    """MobileNet and EfficientNet have such; the hidden layer then has C / 16 units, rounded down, at least one."""
    for block in (SEAttention(channels), ChannelAttention(channels), CBAM(channels), ECAAttention(channels)):
        assert block(maps(2, channels, 4, 6)).shape == (2, channels, 4, 6)
        hidden = [layer.out_features for layer in block.modules() if isinstance(layer, nn.Linear)]
        assert hidden in ([], [max(1, channels // 16), channels])
