"""A training step as a CUDA graph, whose kernels start together, and not one by one from Python."""

import pickle
import random
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

CHECKED_STEPS = 8  # taken both plainly and by the graph, before it is trusted


def graphed(step: Callable[..., tuple[Tensor, ...]], device: torch.device) -> Callable[..., tuple[Tensor, ...]]:
    """`step`, a function of model, optimizer, images, labels and precision; on an NVIDIA GPU as a `GraphedStep`."""
    return GraphedStep(step) if device.type == "cuda" else step


class GraphedStep:
    """Trains one model with one optimizer, whose learning rate stays.

    The first batch is trained plainly: it creates Adam's state. The second of that size is captured; from then on
    batches of that size replay the graph, and others, such as an epoch's last, are trained plainly.

    A graph repeats what the GPU did and not what Python does. So it is first compared with plain steps, and a model
    that it would change, or that it cannot hold, is trained without it.
    """

    def __init__(self, step: Callable[..., tuple[Tensor, ...]]):
        self.step, self.images, self.graph, self.tried = step, None, None, False

    def __call__(self, model: nn.Module, optimizer, images: Tensor, labels: Tensor, precision: str):
        if self.images is None:
            self.images, self.labels = images.clone(), labels.clone()
        elif not self.tried and images.shape == self.images.shape:
            self.tried = True
            if why := self.capture(model, optimizer, precision):
                self.graph = None
                print(f"Trained without a CUDA graph, so more slowly: {why}", flush=True)
        if self.graph is None or images.shape != self.images.shape:
            return self.step(model, optimizer, images, labels, precision)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        return tuple(output.clone() for output in self.outputs)  # which the next replay overwrites

    def capture(self, model: nn.Module, optimizer, precision: str) -> str | None:
        """Makes the graph, or says why it cannot be used. Tensors and PyTorch's generators stay as they were."""
        optimizer_state = [value for state in optimizer.state.values() for value in state.values()]
        tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers(), *optimizer_state)]
        start, python_before = [tensor.clone() for tensor in tensors], python_state(model)
        device = self.images.device.index
        generator = torch.cuda.default_generators[device]
        generator_before = generator.clone_state()

        def plain() -> tuple[Tensor, ...]:
            return self.step(model, optimizer, self.images, self.labels, precision)

        def replayed() -> tuple[Tensor, ...]:
            self.graph.replay()
            return self.outputs

        def try_out(step: Callable[[], tuple[Tensor, ...]]) -> tuple[list[Tensor], object]:
            """What a few steps return and leave behind, on the GPU and in Python; then puts tensors back."""
            try:
                with torch.random.fork_rng([device]):
                    returned = [output.clone() for _ in range(CHECKED_STEPS) for output in step()]
                    python_after = python_state(model)
                return returned + [tensor.clone() for tensor in tensors], python_after
            finally:
                for tensor, value in zip(tensors, start, strict=True):
                    tensor.copy_(value)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch warns that this mode misses some synchronisations
                torch.cuda.set_sync_debug_mode("error")
            expected, python_after = try_out(plain)
            torch.cuda.set_sync_debug_mode("default")
            if python_after != python_before:
                return "its steps draw, count or keep something in Python, which a graph would not repeat"
            self.graph = torch.cuda.CUDAGraph()
            for group in optimizer.param_groups:
                group["capturable"] = True  # fused Adam already is; PyTorch only checks the flag
            with (
                torch.random.fork_rng([]),
                torch.cuda.stream(torch.cuda.current_stream()),  # goes back to it if the capture fails
                torch.cuda.graph(self.graph, stream=torch.cuda.Stream()),
            ):
                self.outputs = plain()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            generator.graphsafe_set_state(generator_before)  # or it would still be in the capture that failed
            return str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
            for group in optimizer.param_groups:
                group["capturable"] = False
        same = all(map(torch.equal, try_out(replayed)[0], expected))
        return None if same else "its replayed steps differ from plain ones"


class Kept(list):
    """Tensors, compared by identity; as long as they are in the list, no other one takes their place in memory."""

    def __eq__(self, other: list) -> bool:
        return len(self) == len(other) and all(one is another for one, another in zip(self, other, strict=True))


def python_state(model: nn.Module) -> tuple[bytes, Kept]:
    """What a step may draw with, count or keep in Python: states of generators, modules' numbers and tensors."""
    values = [value for module in model.modules() for value in (*vars(module).values(), *module._buffers.values())]
    numbers = [value for value in values if isinstance(value, int | float)]
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()
    return pickle.dumps((numbers, generators)), Kept(value for value in values if isinstance(value, Tensor))
