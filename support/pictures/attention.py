"""What a network attends to, in numbers. Its attention blocks are found by their methods, which are then called."""

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from support.data.dataset import normalize

METHODS = {  # by which a block says what it attends to in maps x (N, C, H, W), and what they return
    "weights": "(N, HW, HW) or (N, heads, HW, HW), with rows that sum to 1",
    "gate": "(N, C), (N, C, 1, 1) or (N, 1, H, W)",
    "theta": "(N, 2, 3)",
}
BATCH_SIZE = 64  # at most, as in `evaluate` on a CPU


class Block(NamedTuple):
    """An attention block of a network."""

    module: nn.Module
    method: str  # of METHODS
    kind: str  # weights, channels, positions or theta
    size: tuple[int, int]  # height and width of the map that it is given
    shape: tuple[int, ...]  # of `attention` for one image: (heads, HW, HW), (C,), (H, W) or (2, 3)

    @property
    def where(self) -> str:
        return "{}x{}\N{NO-BREAK SPACE}map".format(*self.size)


def observe(
    model: nn.Module, questions: dict[Hashable, tuple[nn.Module, Callable[[tuple, Any], Any]]], images: Tensor
) -> tuple[Tensor, dict[Hashable, Any]]:
    """Passes images (N, 3, 32, 32) uint8 through a model in evaluation mode, and asks its modules during the pass.

    Args:
        questions: {key: (module, function of the module's inputs and its output)}.

    Returns:
        The model's output, and {key: answer} for the modules that the pass reaches; the first, if it reaches one twice.
    """
    answers, hooks, was_training = {}, [], model.training

    def hook(key: Hashable, function: Callable, _: nn.Module, inputs: tuple, output: Any) -> None:
        answers.setdefault(key, function(inputs, output))

    model.eval()
    try:
        for key, (module, function) in questions.items():
            hooks.append(module.register_forward_hook(partial(hook, key, function)))
        logits = model(normalize(images.to(next(model.parameters()).device)))
    finally:
        for handle in hooks:
            handle.remove()
        model.train(was_training)
    return logits, answers


@torch.no_grad()
def find_blocks(model: nn.Module, images: Tensor) -> tuple[list[Block], list[str]]:
    """The blocks that a pass reaches and that have one of METHODS, in order; and a line for each that does not fit."""
    questions = {}
    for module in model.modules():
        for method in METHODS:
            if callable(attribute := getattr(module, method, None)) and not isinstance(attribute, nn.Module):
                questions[module, method] = module, partial(examine, module, method)
    found = observe(model, questions, images[:2])[1].values()
    blocks = [answer for answer in found if isinstance(answer, Block)]
    return blocks, list(dict.fromkeys(answer for answer in found if isinstance(answer, str)))


def examine(module: nn.Module, method: str, inputs: tuple, _: Any) -> Block | str:
    """A module as a block, or why it is none: what its method returns for the inputs of a pass."""
    x = inputs[0] if inputs else None
    name = f"{type(module).__name__}.{method}"
    if not isinstance(x, Tensor) or x.dim() != 4:
        return f"{name} is not drawn: the block's input is not (N, C, H, W)"
    try:
        answer = getattr(module, method)(x)
        if isinstance(answer, Tensor) and (fitting := fit(method, x, answer)):
            return Block(module, method, fitting[0], tuple(x.shape[2:]), fitting[1])
        came = f"returns {tuple(answer.shape) if isinstance(answer, Tensor) else f'a {type(answer).__name__}'}"
    except Exception as error:  # the user's own code can raise anything
        came = f"raises {type(error).__name__} ({str(error).partition(chr(10))[0]})"
    return f"{name} is not drawn: for x {tuple(x.shape)} it {came}; wanted for (N, C, H, W): {METHODS[method]}"


def fit(method: str, x: Tensor, answer: Tensor) -> tuple[str, tuple[int, ...]] | None:
    """The kind of what a method returned for x, and its shape for one image; None if it fits nothing in METHODS."""
    (n, c, h, w), shape = x.shape, tuple(answer.shape)
    if method == "weights" and len(shape) in (3, 4) and (shape[0], *shape[-2:]) == (n, h * w, h * w):
        sums = answer.float().sum(-1)
        heads = shape[1] if len(shape) == 4 else 1
        return ("weights", (heads, h * w, h * w)) if torch.allclose(sums, torch.ones_like(sums), atol=0.02) else None
    if method == "gate" and shape in ((n, c), (n, c, 1, 1)):
        return "channels", (c,)
    if method == "gate" and shape == (n, 1, h, w):
        return "positions", (h, w)
    return ("theta", (2, 3)) if method == "theta" and shape == (n, 2, 3) else None


@torch.no_grad()
def ask(
    model: nn.Module, blocks: list[Block], images: Tensor, question: Callable[[Block, tuple, Any], Tensor]
) -> dict[Block, Tensor]:
    """The blocks' answers to a question, such as `attention`, for images (N, 3, 32, 32) uint8: (N, ...), on the CPU.

    A batch is so small that its answers take at most 64 MB, unless it is a single image.
    """
    largest = max(math.prod(block.shape) for block in blocks)
    batch_size = min(max(2**24 // largest, 1), BATCH_SIZE)
    questions = {block: (block.module, partial(question, block)) for block in blocks}
    batches = [observe(model, questions, batch)[1] for batch in images.split(batch_size)]
    return {block: torch.cat([answers[block].cpu() for answers in batches]) for block in blocks}


def attention(block: Block, inputs: tuple, _: Any) -> Tensor:
    """What a block attends to, one answer per image, of the shape `block.shape`."""
    return getattr(block.module, block.method)(inputs[0]).float().reshape(-1, *block.shape)


def statistics(block: Block, inputs: tuple, output: Any) -> Tensor:
    """What the texts say of a block, for each image.

    For weights, (N,): the effective number of positions that a position attends to, exp(entropy), mean over heads. For
    other kinds what `attention` gives.
    """
    answer = attention(block, inputs, output)
    return torch.special.entr(answer).sum(-1).exp().mean((1, 2)) if block.kind == "weights" else answer


def corners(theta: Tensor) -> Tensor:
    """The corners of what theta (N, 2, 3) samples from a 32x32 image, in pixels: (N, 4, 2)."""
    whole = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])  # (x, y, 1)
    return 16 * (whole @ theta.transpose(1, 2) + 1)


def grad_cam(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor | None:
    """Grad-CAM of classes (N,) at the last feature map (Selvaraju et al. 2017, arXiv 1610.02391): (N, H, W).

    Channel weights are the class score's gradients, averaged over positions; the map is the ReLU of the weighted
    sum of channels, divided by its maximum. None if the model has no feature map.
    """
    maps = []

    def keep(_: tuple, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[-1] > 1 and output.requires_grad:
            maps.append(output)

    logits, _ = observe(model, {module: (module, keep) for module in model.modules()}, images)
    if not maps:
        return None
    score = logits.gather(1, labels.to(logits.device)[:, None]).sum()
    [gradient] = torch.autograd.grad(score, maps[-1])
    cam = (gradient.mean((2, 3), keepdim=True) * maps[-1].detach()).sum(1).relu().cpu()
    return cam / cam.amax((1, 2), keepdim=True).clamp(min=1e-12)
