"""What a run shows while it works, on a terminal, in a log, in a notebook or nowhere."""

import os
import sys
from collections.abc import Iterable

from tqdm import tqdm


def prepare_streams() -> None:
    """Makes standard output and error take any text, also where they are closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed, or a program without a console
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, for as long as the program
        elif hasattr(stream, "reconfigure"):  # a notebook's stream has no such method, nor any need of it
            stream.reconfigure(errors="backslashreplace")  # for names that the console cannot show


def shows_bars() -> bool:
    """Whether somebody watches: on a terminal or in a notebook, not in a log."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel.")


def bar(iterable: Iterable, label: str | None) -> tqdm:
    """The iterable with a progress bar; `label` None: without. As a context manager, it is closed after Ctrl-C too."""
    return tqdm(iterable, label, leave=False, disable=label is None or not shows_bars())
