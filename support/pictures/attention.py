"""What a model attends to, in numbers: its blocks are found by their methods, and asked."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from support.data.dataset import normalize

METHODS = ("weights", "gate", "theta")  # by which a block says what it attends to


class View(NamedTuple):
    """A block that can be asked: its module, its method, and the words that say where it stands: `8x8 map`."""

    block: nn.Module
    method: Callable[[Tensor], Tensor]
    kind: str  # weights, channels, positions or theta
    where: str


@torch.no_grad()
def ask(model: nn.Module, block: nn.Module, question: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """`question` of what reaches a block as the model sees the images (N, 3, 32, 32) uint8: (N, ...), on the CPU."""
    answers = []
    hook = block.register_forward_pre_hook(lambda _, inputs: answers.append(question(inputs[0]).float().cpu()))
    device = next(model.parameters()).device
    for batch in images.split(250):
        model(normalize(batch.to(device)))
    hook.remove()
    return torch.cat(answers) if answers else torch.empty(0)


def find_views(model: nn.Module, images: Tensor) -> list[View]:
    """The model's blocks that have one of `METHODS` and that a forward pass reaches, in the model's order."""
    views = []
    for block in model.modules():
        for name in METHODS:
            method = getattr(block, name, None)
            if not callable(method) or isinstance(method, nn.Module):
                continue
            x = ask(model, block, lambda x: x, images[:1])
            if not len(x):  # no forward pass reaches it
                continue
            answer = ask(model, block, method, images[:1])
            kind = name if name != "gate" else {2: "channels", 4: "positions"}.get(answer.dim())
            if kind:
                height, width = x.shape[-2:]
                views.append(View(block, method, kind, f"{height}x{width}\N{NO-BREAK SPACE}map"))
    return views


def weight_maps(model: nn.Module, view: View, images: Tensor) -> Tensor:
    """Where each position attends to, in multiples of equal attention: (N, heads, h, w, h, w)."""

    def question(x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        weights = view.method(x)
        return (weights * h * w).reshape(len(x), -1, h, w, h, w)

    return ask(model, view.block, question, images)


def weight_statistics(model: nn.Module, view: View, images: Tensor) -> tuple[Tensor, float, float]:
    """How sharply each head looks, how much is added, and how much a map depends on who asks; image means.

    Returns:
        The effective number of positions that a position attends to, exp(entropy), of each head (heads,);
        ||block(x) - x|| / ||x||;
        the mean cosine distance between the maps of different positions of one image (Cao et al.: GCNet, 2019,
        arXiv 1904.11492).
    """

    def question(x: Tensor) -> Tensor:
        weights = view.method(x).float()
        weights = weights.reshape(len(x), -1, *weights.shape[-2:])  # (N, heads, HW, HW)
        n = weights.shape[-1]
        positions = torch.special.entr(weights).sum(-1).exp().mean(-1)  # (N, heads)
        unit = weights / weights.norm(dim=-1, keepdim=True)
        cosine = (unit.sum(2).square().sum(-1) - n) / (n * (n - 1))  # (N, heads), pairs of different positions
        # forward, since a call would come back to this question
        change = (view.block.forward(x) - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)  # (N,)
        return torch.cat([positions, change[:, None], 1 - cosine.mean(1, keepdim=True)], dim=1)

    figures = ask(model, view.block, question, images).mean(0)
    return figures[:-2], figures[-2].item(), figures[-1].item()


def class_means(gates: Tensor, labels: Tensor, classes: list[int]) -> Tensor:
    """The mean gate of each channel over the images of each class: (N, C) to (K, C)."""
    return torch.stack([gates[labels == label].mean(0) for label in classes])


CORNERS = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])  # (x, y, 1) of a whole image


def frames(theta: Tensor) -> Tensor:
    """The corners that theta (N, 2, 3) samples from, in pixels of a 32x32 image: (N, 4, 2)."""
    return 16 * (CORNERS @ theta.transpose(1, 2) + 1)


def grad_cam(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor | None:
    """Grad-CAM of the true class at the last feature map (Selvaraju et al. 2017, arXiv 1610.02391).

    Channel weights are the class score's gradients, averaged over positions; the map is the ReLU of the weighted
    sum of channels, divided by its maximum: (N, h, w), or None where the model has no feature map.
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
    return cam / cam.amax((1, 2), keepdim=True).clamp(min=1e-12)
