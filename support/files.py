"""Files that are whole whatever happens: a crash, a full disk, a power cut, another run of the same name."""

import glob
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout  # comes with torch

from support.errors import UserError


@contextmanager
def holding(folder: Path, name: str) -> Iterator[None]:
    """Reserves a run's name in a folder for this process, by a lock on `.<name>.lock`, which ends with the process.

    Where the file system has no locks, it says so and continues without.

    Raises:
        UserError: another process holds the name.
    """
    lock = FileLock(folder / f".{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        advice = "wait for it to finish, or stop it"
        raise UserError(f"another run of {name} is in progress in the folder {folder}: {advice}", 2) from None
    except (OSError, NotImplementedError) as error:  # the second: older versions of filelock
        print(f"{lock.lock_file} cannot be locked ({error}): do not start another run with this name in this folder")
    try:
        yield
    finally:
        lock.release()  # the file stays: to remove it could let two processes lock files of that name


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path; what is written there then replaces `path` in one step.

    Until that step, and if anything fails before it, the old file stays as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def modified(path: Path) -> float:
    """When a file was changed last; 0 if it has just been moved away."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


# of the files that belong to one run; the checkpoint last, since a run is resumed from it
ENDINGS = (".csv", ".json", ".png", ".attention.png", ".photo.png", ".pt")


def remove_leftovers(folder: Path, name: str) -> None:
    """Removes the temporary files of `replacing` that killed runs have left."""
    for ending in ENDINGS:
        for leftover in folder.glob(f"{glob.escape(name + ending)}.[0-9]*.tmp"):
            leftover.unlink(missing_ok=True)
    for leftover in folder.glob("comparison*.png.[0-9]*.tmp"):
        if time.time() - modified(leftover) > 3600:  # not one that another run is writing now
            leftover.unlink(missing_ok=True)


def set_aside(folder: Path, name: str) -> Path | None:
    """Moves those of a run's files that exist to a new folder, `earlier/<name>-<k>`; returns None if there are none."""
    files = [file for ending in ENDINGS if (file := folder / f"{name}{ending}").exists()]
    if not files:
        return None
    k = 1
    while (place := folder / "earlier" / f"{name}-{k}").exists():
        k += 1
    place.mkdir(parents=True)
    for file in files:
        os.replace(file, place / file.name)
    return place
