"""A training step as a CUDA graph: its kernels start together, not one by one from Python."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CHECKED_STEPS = 8  # taken both plainly and by the graph, before it is used
Step = Callable[..., tuple[Tensor, ...]]  # of model, optimizer, images, labels and precision


class GraphedStep:
    """Trains one model with one optimizer, whose learning rate stays the same, by replaying one captured step.

    The first batch is trained plainly: it creates Adam's state. The second of that size is captured; from then on
    batches of that size replay the graph, and others, such as an epoch's last, are trained plainly.

    A graph repeats what the GPU did, not what Python did: counters, schedules and random numbers of Python's in a
    `forward` happen once, at the capture. Before the graph is used, a few replayed steps are compared with plain ones.
    Where they differ, or the capture fails, training goes on without a graph.
    """

    def __init__(self, step: Step):
        self.step, self.images, self.graph, self.tried = step, None, None, False

    def __call__(self, model: nn.Module, optimizer, images: Tensor, labels: Tensor, precision: str):
        if self.images is None:
            self.images, self.labels = images.clone(), labels.clone()
        elif not self.tried and images.shape == self.images.shape:
            self.tried = True
            if why := self.capture(model, optimizer, precision):
                print(f"Training without a CUDA graph (slower): {why}", flush=True)
        if self.graph is None or images.shape != self.images.shape:
            return self.step(model, optimizer, images, labels, precision)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        return tuple(output.clone() for output in self.outputs)  # which the next replay overwrites

    def capture(self, model: nn.Module, optimizer, precision: str) -> str | None:
        """Makes the graph, or says why it cannot be used. Tensors and random numbers stay as they were."""
        adam = [value for state in optimizer.state.values() for value in state.values()]
        tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers(), *adam)]
        start = [tensor.clone() for tensor in tensors]
        device = self.images.device.index
        generator = torch.cuda.default_generators[device]
        generator_before = generator.clone_state()

        def plain() -> tuple[Tensor, ...]:
            return self.step(model, optimizer, self.images, self.labels, precision)

        def replayed() -> tuple[Tensor, ...]:
            graph.replay()
            return self.outputs

        def outcome(step: Callable[[], tuple[Tensor, ...]]) -> list[Tensor]:
            """What a few steps return and leave behind; then puts everything back."""
            with torch.random.fork_rng([device]):
                returned = [output.clone() for _ in range(CHECKED_STEPS) for output in step()]
            result = returned + [tensor.clone() for tensor in tensors]
            for tensor, value in zip(tensors, start, strict=True):
                tensor.copy_(value)
            return result

        expected, graph = outcome(plain), torch.cuda.CUDAGraph()
        for group in optimizer.param_groups:
            group["capturable"] = True  # fused Adam already is; PyTorch only checks the flag
        try:
            with (
                torch.random.fork_rng([]),
                torch.cuda.stream(torch.cuda.current_stream()),  # goes back to it if the capture fails
                torch.cuda.graph(graph, stream=torch.cuda.Stream()),
            ):
                self.outputs = plain()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            generator.graphsafe_set_state(generator_before)  # or it would still be in the capture that failed
            return str(error).partition("\n")[0] or type(error).__name__
        finally:
            for group in optimizer.param_groups:
                group["capturable"] = False
        if not all(map(torch.equal, outcome(replayed), expected)):
            return "replayed steps differ from plain ones"
        self.graph = graph
        return None
