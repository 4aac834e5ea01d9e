"""A folder of the user's own pictures, `train/<class>/*` and `test/<class>/*`, as a dataset."""

import os
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from support.data.dataset import Data, printable
from support.errors import UserError
from support.terminal import bar

SYSTEM_NAMES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"}


def is_visible(name: str) -> bool:
    """Whether a file or folder is neither hidden nor put there by the system."""
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES


def composed(name: str) -> str:
    """A name in the form (NFC) in which names are compared: macOS writes é as two characters."""
    return unicodedata.normalize("NFC", name)


def refuse_foreign_folder(folder: Path) -> None:
    """Raises UserError for a folder of other things, into which CIFAR-10 must not be downloaded unasked."""
    names = sorted(filter(is_visible, os.listdir(folder))) if folder.is_dir() else []
    others = [name for name in names if not name.startswith("cifar-10")]
    if others and not {"cifar-10-batches-py", "cifar-10-python.tar.gz"}.intersection(names):
        raise UserError(
            f"--data {folder}: has {', '.join(others[:3])}, but neither train and test (lower case) nor "
            "cifar-10-batches-py; give the folder that holds those, or an empty one to download CIFAR-10 into",
            2,
        )


def find_pictures(split: Path, skipped: Counter[str]) -> dict[str, list[Path]]:
    """The pictures of each class in `train` or `test`, in the same order on every system.

    Subfolders count as their class. Links to pictures and to classes are followed; links from within a class to
    folders are not, since they may lead in a circle. `skipped` counts what is left out, by kind.
    """
    readable = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    classes = {}

    def fail(error: OSError) -> None:  # an unreadable folder would otherwise be taken for an empty one
        raise error

    for place in filter(lambda path: is_visible(path.name), split.iterdir()):
        if not place.is_dir():
            skipped[f"in {split.name} itself"] += 1
            continue
        pictures = classes.setdefault(composed(place.name), [])
        for root, folders, files in os.walk(place, onerror=fail):
            folders[:] = filter(is_visible, folders)
            skipped["linked folder(s)"] += sum(os.path.islink(os.path.join(root, name)) for name in folders)
            for path in (Path(root, name) for name in files if is_visible(name)):
                if path.suffix.lower() in readable:
                    pictures.append(path)
                else:
                    skipped[path.suffix.lower() or "without an ending"] += 1
        pictures.sort(key=lambda path: composed(path.as_posix()))
    return dict(sorted(classes.items()))


def read_tree(folder: Path) -> Data:
    """The pictures in `train/<class>/*` and `test/<class>/*`, of any format that Pillow reads, as 32x32 RGB.

    Raises:
        UserError: the layout is different, or a picture cannot be read.
    """
    for split in ("train", "test"):
        if not (folder / split).is_dir():
            raise UserError(f"--data {folder}: the folder {split} is missing: both train and test are needed", 2)
    skipped = Counter()
    train, test = (find_pictures(folder / split, skipped) for split in ("train", "test"))
    if kinds := [f"{count:,} {kind}" for kind, count in skipped.most_common() if count]:
        more = ", ..." if len(kinds) > 5 else ""
        print(f"Skipped: {', '.join(kinds[:5])}{more} (convert pictures such as HEIC to JPEG)", flush=True)
    empty = [folder / "train" / name for name in train if not train[name]]
    if len(train) < 2:
        raise UserError(f"--data {folder}: train needs a folder for each of at least two classes", 2)
    if unknown := [name for name in test if name not in train]:
        raise UserError(f"--data {folder}: test has the class {unknown[0]!r}, which train lacks", 2)
    if empty or not any(test.values()):
        raise UserError(f"--data {folder}: no pictures in {empty[0] if empty else folder / 'test'}", 2)

    def tensors(split: dict[str, list[Path]]) -> tuple[Tensor, Tensor]:
        labels = [label for label, name in enumerate(train) for _ in split.get(name, [])]
        return read_pictures([path for paths in split.values() for path in paths]), torch.tensor(labels)

    return Data(printable(folder.absolute().name), list(map(printable, train)), *tensors(train), *tensors(test))


def read_pictures(paths: list[Path]) -> Tensor:
    """Pictures as (N, 3, 32, 32) uint8, channels last, in the order of their paths."""
    images = np.empty((len(paths), 32, 32, 3), np.uint8)
    # Pillow releases Python's lock while it decodes, so threads decode at the same time. Each has a picture in memory
    # at its full size, hence no more than eight.
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool, bar(range(len(paths)), "Reading pictures") as numbers:
        for i, image in zip(numbers, pool.map(read_picture, paths), strict=True):  # cancels what is left on an error
            images[i] = image
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def read_picture(path: Path) -> np.ndarray:
    """One picture as (32, 32, 3) uint8."""
    return np.asarray(open_picture(path, 64).resize((32, 32), Image.BILINEAR))


def open_picture(path: Path, side: int) -> Image.Image:
    """One picture in RGB, rotated as its EXIF data says, on white where it is transparent.

    A large JPEG may come out reduced, to no less than `side` pixels on each side.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))  # lets a large JPEG be decoded at a fraction of its size
            image.load()
            # 16-bit grey, which convert() would clip to white; older Pillow calls it I in a PNG
            deep = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")
            with suppress(Exception):  # broken EXIF data: the picture stays as it is
                image = ImageOps.exif_transpose(image)
            if deep:
                image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
            if image.mode[0] in "IF":  # nothing says which of its numbers is white
                raise ValueError(f"its pixels have the mode {image.mode!r}: save it with 8 bits per channel")
            has_alpha_palette = image.mode == "P" and image.palette.mode == "RGBA"
            if image.mode[-1] in "Aa" or "transparency" in image.info or has_alpha_palette:
                image = image.convert("RGBA")  # convert("RGB") would show the colour that transparency hides
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")
    except Exception as error:  # Pillow's many decoders raise many kinds
        raise UserError(f"cannot read the picture {path} ({error})", 2) from error
