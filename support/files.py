"""Files that are whole whatever happens: a crash, a full disk, a power cut."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hands out a temporary path; what is written there then replaces `path` in one step.

    Until that step, and if anything fails before it, the old file stands as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# of the files that a run has to itself; the checkpoint last, since it stands for the others
ENDINGS = (".csv", ".json", ".png", ".attention.png", ".pt")


def remove_leftovers(folder: Path, name: str) -> None:
    """Removes what a run that was killed while it wrote has left of `replacing`."""
    for ending in ENDINGS:
        for leftover in folder.glob(f"{glob.escape(name + ending)}.[0-9]*.tmp"):
            leftover.unlink(missing_ok=True)


def set_aside(folder: Path, name: str) -> Path:
    """Moves a run's files, as far as they are there, to a new folder, `earlier/<name>-<k>`.

    The checkpoint goes last: while it is there, the next start sets aside what is left.
    """
    k = 1
    while (place := folder / "earlier" / f"{name}-{k}").exists():
        k += 1
    place.mkdir(parents=True)
    for ending in ENDINGS:
        if (file := folder / f"{name}{ending}").exists():
            os.replace(file, place / file.name)
    return place
