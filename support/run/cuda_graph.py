"""A training step as a CUDA graph, whose kernels start together, and not one by one from Python."""

import pickle
import random
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

STEPS = 8  # taken both plainly and by the graph, before it is trusted


def graphed(step: Callable[..., tuple[Tensor, ...]], device: torch.device) -> Callable[..., tuple[Tensor, ...]]:
    """`step`, a function of model, optimizer, images, labels and precision; on an NVIDIA GPU as a `GraphedStep`."""
    return GraphedStep(step) if device.type == "cuda" else step


class GraphedStep:
    """Captures a step with the second batch that has the first one's size; from then on batches of that size are
    replayed, and others are trained plainly, such as an epoch's last and the first, which makes the optimizer's state.

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
        """Makes the graph and leaves everything else as it was, or says why it cannot be used."""
        moments = [value for state in optimizer.state.values() for value in state.values()]
        tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers(), *moments)]
        start, counted = [tensor.clone() for tensor in tensors], counts(model)
        generator = torch.cuda.default_generators[self.images.device.index]
        before = generator.clone_state()

        def plain() -> tuple[Tensor, ...]:
            return self.step(model, optimizer, self.images, self.labels, precision)

        def replayed() -> tuple[Tensor, ...]:
            self.graph.replay()
            return self.outputs

        def results(step: Callable[[], tuple[Tensor, ...]]) -> list[Tensor]:
            """What a few steps return and leave behind; then puts everything back."""
            try:
                with torch.random.fork_rng([self.images.device.index]):
                    returned = [output.clone() for _ in range(STEPS) for output in step()]
                return returned + [tensor.clone() for tensor in tensors]
            finally:
                for tensor, value in zip(tensors, start, strict=True):
                    tensor.copy_(value)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the mode, that it does not find everything
                torch.cuda.set_sync_debug_mode("error")
            expected = results(plain)
            torch.cuda.set_sync_debug_mode("default")
            if counts(model) != counted:
                return "its steps draw or count something in Python, which a graph would not repeat"
            self.graph = torch.cuda.CUDAGraph()
            for group in optimizer.param_groups:
                group["capturable"] = True  # which fused Adam is in any case; it asks for the word alone
            with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(self.graph):
                self.outputs = plain()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            generator.graphsafe_set_state(before)  # or it would still be in the capture that failed
            return str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
            for group in optimizer.param_groups:
                group["capturable"] = False
        if not all(map(torch.equal, results(replayed), expected)):
            return "its replayed steps differ from plain ones"
        return None


def counts(model: nn.Module) -> bytes:
    """What a step may count or draw with in Python: the numbers of modules, and the states of two generators."""
    values = [list(vars(module).values()) for module in model.modules()]
    numbers = [[value for value in of_one if isinstance(value, int | float)] for of_one in values]
    return pickle.dumps((numbers, random.getstate(), np.random.get_state()))
