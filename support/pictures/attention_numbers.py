"""What a model attends to, in numbers: its blocks are found by their methods and queried."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from support.data.dataset import Data, normalize

METHODS = ("weights", "gate", "theta")  # by which a block says what it attends to
CLASSES = 10
CORNERS = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])  # (x, y, 1) of a whole image


class Probe(NamedTuple):
    """A block that can be queried: its module, its method, and the words that say where it stands: `8x8 map`."""

    block: nn.Module
    method: Callable[[Tensor], Tensor]
    kind: str  # weights, channels, positions or theta
    where: str


class Weights(NamedTuple):
    """Where positions attend to. Means are over the test images."""

    where: str
    maps: Tensor  # (n, heads, h, w, h, w), of the chosen images, in multiples of equal attention
    spread: Tensor  # (heads,) mean effective number of positions that a position attends to, exp(entropy)
    change: float  # mean ||block(x) - x|| / ||x||
    distance: float  # mean cosine distance between the maps of an image's positions (Cao et al.: GCNet, 2019)


class Channels(NamedTuple):
    """How a block gates its channels, by class."""

    where: str
    low: float
    high: float
    difference: Tensor  # (K, C), each class's mean gate minus the classes' mean
    spread: Tensor  # (C,), the standard deviation of that


class Positions(NamedTuple):
    """How a block gates positions."""

    where: str
    low: float
    high: float
    spread: float  # standard deviation within an image, mean over the test images
    maps: Tensor  # (n, h, w), of the chosen images


class Frame(NamedTuple):
    """The frame that is sampled from each image, in pixels."""

    corners: Tensor  # (n, 4, 2), of the chosen images
    sampled: Tensor  # (n, 3, 32, 32)
    area: float  # mean share of the image's
    shift: float  # the most that a corner is away from the image's own
    movement: float  # mean distance of the frame's centre from its mean place
    images: int


class Cam(NamedTuple):
    """Grad-CAM of the chosen images."""

    maps: Tensor  # (n, h, w), from 0 to 1
    half: float  # mean number of positions that hold half of a map's sum


@torch.no_grad()
def probe(model: nn.Module, block: nn.Module, function: Callable[[Tensor, Tensor], Tensor], images: Tensor) -> Tensor:
    """`function` of a block's input and output as the model sees images (N, 3, 32, 32) uint8: (N, ...), on the CPU.

    Empty where no forward pass reaches the block.
    """
    answers = []
    hook = block.register_forward_hook(lambda _, inputs, output: answers.append(function(inputs[0], output).cpu()))
    device = next(model.parameters()).device
    for batch in images.split(250):
        model(normalize(batch.to(device)))
    hook.remove()
    return torch.cat(answers) if answers else torch.empty(0)


def find_probes(model: nn.Module, images: Tensor) -> list[Probe]:
    """The model's blocks that have one of `METHODS` and that a forward pass reaches, in the model's order."""
    probes = []
    for block in model.modules():
        for name in METHODS:
            method = getattr(block, name, None)
            if not callable(method) or isinstance(method, nn.Module):
                continue
            x = probe(model, block, lambda x, _: x, images[:1])
            if not len(x):
                continue
            answer = probe(model, block, lambda x, _, method=method: method(x), images[:1])
            kind = name if name != "gate" else {2: "channels", 4: "positions"}.get(answer.dim())
            if kind:
                height, width = x.shape[-2:]
                probes.append(Probe(block, method, kind, f"{height}x{width}\N{NO-BREAK SPACE}map"))
    return probes


def answers(model: nn.Module, asked: Probe, images: Tensor) -> Tensor:
    return probe(model, asked.block, lambda x, _: asked.method(x).float(), images)


def weights(model: nn.Module, asked: Probe, data: Data, chosen: Tensor) -> Weights:
    def statistics(x: Tensor, y: Tensor) -> Tensor:
        maps = asked.method(x).float()
        maps = maps.reshape(len(x), -1, *maps.shape[-2:])  # (N, heads, HW, HW)
        n = maps.shape[-1]
        spread = torch.special.entr(maps).sum(-1).exp().mean(-1)  # (N, heads)
        unit = maps / maps.norm(dim=-1, keepdim=True)
        cosine = (unit.sum(2).square().sum(-1) - n) / (n * (n - 1))  # (N, heads), pairs of different positions
        change = (y - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)  # (N,)
        return torch.cat([spread, change[:, None], 1 - cosine.mean(1, keepdim=True)], dim=1)

    def relative(x: Tensor, _: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        return (asked.method(x).float() * h * w).reshape(len(x), -1, h, w, h, w)

    *spread, change, distance = probe(model, asked.block, statistics, data.test_images).mean(0)
    maps = probe(model, asked.block, relative, data.test_images[chosen])
    return Weights(asked.where, maps, torch.stack(spread), change.item(), distance.item())


def channels(model: nn.Module, asked: Probe, data: Data, chosen: Tensor) -> Channels:
    gates = answers(model, asked, data.test_images)  # (N, C)
    means = torch.stack([gates[data.test_labels == label].mean(0) for label in first_classes(data)])  # (K, C)
    difference = means - means.mean(0)
    spread = difference.square().mean(0).sqrt()
    return Channels(asked.where, gates.min().item(), gates.max().item(), difference, spread)


def first_classes(data: Data) -> list[int]:
    return data.test_labels.unique()[:CLASSES].tolist()


def positions(model: nn.Module, asked: Probe, data: Data, chosen: Tensor) -> Positions:
    gates = answers(model, asked, data.test_images)[:, 0]  # (N, h, w)
    spread = gates.flatten(1).std(1).mean().item()
    return Positions(asked.where, gates.min().item(), gates.max().item(), spread, gates[chosen])


def corners(theta: Tensor) -> Tensor:
    """What theta (N, 2, 3) samples from a 32x32 image, in pixels: (N, 4, 2)."""
    return 16 * (CORNERS @ theta.transpose(1, 2) + 1)


def frame(model: nn.Module, asked: Probe, data: Data, chosen: Tensor) -> Frame:
    theta = answers(model, asked, data.test_images)  # (N, 2, 3)
    places = corners(theta)
    shift = (places - corners(torch.eye(2, 3)[None])).norm(dim=2)  # (N, 4)
    centres = places.mean(1)  # (N, 2)
    sampled = probe(model, asked.block, lambda _, y: y.float(), data.test_images[chosen])
    return Frame(
        places[chosen],
        sampled.add(1).div(2).clamp(0, 1),
        area=theta[:, :, :2].det().abs().mean().item(),
        shift=shift.max().item(),
        movement=(centres - centres.mean(0)).norm(dim=1).mean().item(),
        images=len(theta),
    )


def grad_cam(model: nn.Module, images: Tensor, labels: Tensor) -> Cam | None:
    """Grad-CAM of the true class at the last feature map (Selvaraju et al. 2017, arXiv 1610.02391).

    Channel weights are the class score's gradients, averaged over positions; the map is the ReLU of the weighted
    sum of channels, divided by its maximum. None where the model has no feature map.
    """
    maps = []

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[-1] > 1:
            maps.append(output)

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    device = next(model.parameters()).device
    logits = model(normalize(images.to(device)))
    for hook in hooks:
        hook.remove()
    if not maps:
        return None
    score = logits.gather(1, labels.to(device)[:, None]).sum()
    [gradient] = torch.autograd.grad(score, maps[-1])
    cam = (gradient.mean((2, 3), keepdim=True) * maps[-1].detach()).sum(1).relu().cpu()
    cam = cam / cam.amax((1, 2), keepdim=True).clamp(min=1e-12)
    share = cam.flatten(1)
    half = (share.sort(dim=1, descending=True).values.cumsum(1) < share.sum(1, keepdim=True) / 2).sum(1) + 1
    return Cam(cam, half.float().mean().item())
