"""Error messages for the user: one line that says what to do, and an exit status."""

import argparse
import builtins
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """What is wrong and what to do about it. `status` is 2 for what was typed, and 1 for what goes wrong later."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


def quote(words: list[str]) -> str:
    """Words as they are to be typed, with quotation marks where the shell needs them."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def in_ipython() -> bool:
    return hasattr(builtins, "__IPYTHON__")


def in_cell() -> bool:
    """Whether the program is typed into a notebook or a Python prompt, not run from a script."""
    return not hasattr(sys.modules["__main__"], "__file__")


def command(options: argparse.Namespace, *words: str) -> str:
    """What to type to start this script with these flags."""
    if in_cell():
        return options.call.format(list(words))
    return quote(["%run" if in_ipython() else "python", *options.program, *words])


def again(options: argparse.Namespace, *flags: str) -> str:
    """What to type to start this run again, with these flags in place of `--resume` and `--look`."""
    return command(options, *(word for word in options.typed if word not in ("--resume", "--look")), *flags)


def continue_command(options: argparse.Namespace) -> str:
    """What to type to continue this run."""
    return again(options, "--look" if options.look else "--resume")


def finish(message: str, status: int) -> None:
    """Ends the program with a line on standard error."""
    program = "run" if in_cell() else Path(sys.argv[0]).name
    print(f"{program}: {message}", file=sys.stderr, flush=True)
    sys.exit(status)


@contextmanager
def quiet_exit() -> Iterator[None]:
    """Keeps IPython from printing `SystemExit` and advice on tracebacks below the line that `finish` printed."""
    try:
        yield
    except SystemExit:
        if not in_ipython():
            raise


@contextmanager
def plain_errors(options: argparse.Namespace) -> Iterator[None]:
    """Turns what a user can fix into one line; a mistake in the program keeps its traceback."""
    try:
        yield
    except UserError as error:
        finish(str(error), error.status)
    except KeyboardInterrupt:
        finish("stopped", 130)
    except BrokenPipeError:  # nobody reads on, as after `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that Python's last flush has somewhere to go
        sys.exit(1)
    except OSError as error:
        out = getattr(options, "out", None)
        if error.filename and out not in Path(error.filename).parents:  # opened by the user's own code
            raise
        saved = getattr(options, "saved", False)  # else `--resume` would continue an earlier run
        then = f"continue with: {continue_command(options)}" if saved else "run the same command again"
        finish(f"cannot write ({error}); fix the problem, then {then}", 1)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        advice = f"use another --batch-size than {options.batch_size}"
        finish(f"the last batch of an epoch has one image, from which batch norm cannot learn: {advice}", 1)
    except NotImplementedError as error:  # as the gradient of `grid_sample` on MPS, up to PyTorch 2.11
        operation, is_missing, _ = str(error).partition(" is not currently implemented for the")
        if not is_missing:
            raise
        finish(f"{operation} is missing on {options.device}: add --device cpu, or use a newer PyTorch", 1)
    except (RuntimeError, MemoryError) as error:
        on_gpu, on_cpu = "out of memory" in str(error), "allocate memory" in str(error)
        if not (on_gpu or on_cpu or isinstance(error, MemoryError)) or "batch_size" not in options:
            raise
        advice = f"try a smaller --batch-size than {options.batch_size}, or a smaller network"
        finish(f"out of memory on {options.device}: {advice}", 1)
