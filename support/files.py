"""Files that are whole whatever happens: a crash, a full disk, a power cut."""

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


def set_aside(folder: Path, names: list[str]) -> Path:
    """Moves files of these names, as far as they are there, to a new folder in `folder/earlier`, in order."""
    k = 1
    while (place := folder / "earlier" / f"{Path(names[-1]).stem}-{k}").exists():
        k += 1
    place.mkdir(parents=True)
    for name in names:
        if (folder / name).exists():
            os.replace(folder / name, place / name)
    return place
