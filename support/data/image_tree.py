"""A folder of the user's own pictures, `train/<class>/*` and `test/<class>/*`, as a data set."""

import os
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from support.data.dataset import Data, printable
from support.errors import UserError
from support.terminal import bar

PLAIN_MODES = {"1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV"}  # of Pillow's, those of 8 bits a channel
ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
SYSTEM_NAMES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"}
CIFAR10 = "cifar-10-batches-py"  # the folder that the archive holds
# Pillow lets go of Python's lock while it decodes, so threads decode at the same time. Each has a picture in memory
# at its full size, hence no more than eight.
THREADS = min(8, os.cpu_count() or 1)
SMALL = 2**14  # bytes of a picture that is read sooner than another thread is asked to
AHEAD = 64  # pictures, small once they are read, that may wait for one before them


def visible(folder: Path) -> list[Path]:
    """What a folder holds, but for hidden things and those that systems put there."""
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in paths if path.name.lower() not in SYSTEM_NAMES]


def is_picture(path: Path) -> bool:
    """Whether a file's name says that it is a picture which Pillow reads."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    return kind in Image.OPEN and path.is_file()


def refuse_foreign_folder(folder: Path) -> None:
    """Raises UserError for a folder of other things, into which CIFAR-10 is not to be downloaded unasked, and for a
    folder within a data set."""
    if not folder.is_dir() or any((folder / name).exists() for name in (CIFAR10, "cifar-10-python.tar.gz")):
        return
    here = folder.resolve()
    names = [path.name for path in visible(folder) if path.is_dir() or is_picture(path)]
    if here.name == CIFAR10 or (names and here.name in ("train", "test")):
        raise UserError(f"--data {folder}: give the folder above, {here.parent}", 2)
    if (folder / "data_batch_1").exists():
        raise UserError(f"--data {folder}: call this folder {CIFAR10} and give the folder above, {here.parent}", 2)
    if names:
        raise UserError(
            f"--data {folder}: has {', '.join(names[:3])}, but no folders train and test (in small letters) with a "
            "folder of pictures for each class in both; to download CIFAR-10, give a folder of its own",
            2,
        )


def find_pictures(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The pictures in a class's folder and the folders in it, and what else is there, counted by kind.

    Links to pictures are followed. Links to folders are not: they may lead into another class, or in a circle.
    """
    pictures, unread = [], Counter()
    for path in visible(folder):
        if is_picture(path):
            pictures.append(path)
        elif path.is_file():
            ending = path.suffix.lower()
            unread[ending if ending[1:].isalnum() else "file(s) without an ending such as .jpg"] += 1
        elif not path.is_dir():
            unread["broken link(s)"] += 1
        elif path.is_symlink():
            unread["linked folder(s) within a class"] += 1
        else:
            more, rest = find_pictures(path)
            pictures += more
            unread += rest if more or rest else Counter({"empty folder(s)": 1})
    return pictures, unread


def find_classes(folder: Path) -> tuple[dict[str, list[Path]], Counter[str]]:
    """The pictures of each class in `train` or `test`, and what else is there, counted by kind."""
    classes, unread = {}, Counter()
    for path in visible(folder):
        if path.is_dir():
            classes[path.name], rest = find_pictures(path)
            unread += rest
        else:
            kind = f"file(s) in {folder.name} itself" if path.is_file() else "broken link(s)"
            unread[kind] += 1
    return classes, unread


def not_read(unread: Counter[str]) -> str:
    """The sentence that tells the user of what was left out; empty if nothing was."""
    endings, others = [], []
    for kind, count in sorted(unread.items()):
        text = f"{count:,} {kind}".replace("(s)", "s" if count > 1 else "")
        (endings if kind.startswith(".") else others).append(text)
    if endings:
        endings[-1] += " (Pillow cannot read these: convert pictures to JPEG)"
    return f"not read: {', '.join(endings + others)}" if unread else ""


def read_tree(folder: Path) -> Data:
    """The pictures in `train/<class>/*` and `test/<class>/*`, of any kind that Pillow reads, as 32x32 RGB.

    As with torchvision's `ImageFolder`, a picture in a folder within a class's folder is of that class. Prints how
    many other files there are, by kind.

    Raises:
        UserError: the layout is another, or a picture cannot be read.
    """

    def fail(*reasons: str) -> None:
        raise UserError(f"--data {folder}: {'; '.join(filter(None, reasons))}", 2)

    for split in ("train", "test"):
        if not (folder / split).is_dir():
            fail(f"the folder {split} is missing: both train and test are needed")
    (train, unread), (test, unread_test) = find_classes(folder / "train"), find_classes(folder / "test")
    classes = list(train)
    if len(classes) < 2:
        fail("train needs a folder for each of at least two classes", not_read(unread))
    if empty := [folder / "train" / name for name in classes if not train[name]]:
        fail(f"no pictures in {empty[0]}", not_read(find_pictures(empty[0])[1]))
    if unknown := [name for name in test if name not in train]:
        fail(f"test has the class {unknown[0]!r}, which train lacks")
    if not any(test.values()):
        fail(f"no pictures in {folder / 'test'}", not_read(unread_test))
    unread += unread_test
    for path in visible(folder):
        if path.name not in ("train", "test") and (path.is_dir() or is_picture(path)):
            unread["folder(s) or picture(s) beside train and test"] += 1
    if unread:
        print(not_read(unread), flush=True)

    def tensors(groups: dict[str, list[Path]]) -> tuple[Tensor, Tensor]:
        images = read_pictures(folder, [path for group in groups.values() for path in group])
        labels = [classes.index(name) for name, group in groups.items() for _ in group]
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels)

    names = [printable(name) for name in classes]
    return Data(printable(folder.absolute().name), names, *tensors(train), *tensors(test))


def read_pictures(folder: Path, paths: list[Path]) -> np.ndarray:
    """Pictures as (N, 32, 32, 3) uint8, in the order of their paths.

    Raises:
        UserError: a picture cannot be read, the first of those in order.
    """
    images = np.empty((len(paths), 32, 32, 3), np.uint8)
    pool = ThreadPoolExecutor(THREADS)

    def submit(path: Path) -> Future | None:
        return pool.submit(read_picture, path) if path.stat().st_size > SMALL else None

    upcoming = iter(paths)
    submitted = deque(map(submit, islice(upcoming, AHEAD)))
    shown = bar(paths, "Reading pictures")
    try:
        for i, path in enumerate(shown):
            future = submitted.popleft()
            try:
                images[i] = future.result() if future else read_picture(path)
            except Exception as error:  # Pillow's many decoders raise many kinds
                raise UserError(f"--data {folder}: cannot read the picture {path} ({error})", 2) from error
            submitted.extend(map(submit, islice(upcoming, 1)))
    finally:
        shown.close()
        pool.shutdown(cancel_futures=True)
    return images


def read_picture(path: Path) -> np.ndarray:
    """One picture as (32, 32, 3) uint8, rotated according to its EXIF tag, on white where it is transparent.

    Raises:
        ValueError: its values are not 8-bit colours, nor 16-bit greys, so how bright they are is not known.
    """
    with Image.open(path) as image:
        image.draft("RGB", (64, 64))  # lets a large JPEG be decoded at a fraction of its size
        # 16-bit grey, which convert() would clip to white; older Pillow calls it I in a PNG
        deep = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")
        image = ImageOps.exif_transpose(image)
        if deep:
            image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
        if image.mode not in PLAIN_MODES | ALPHA_MODES:
            raise ValueError(f"its pixels are of the kind {image.mode!r}: save it with 8 bits a channel")
        has_alpha_palette = image.mode == "P" and image.palette.mode == "RGBA"
        if image.mode in ALPHA_MODES or "transparency" in image.info or has_alpha_palette:
            image = image.convert("RGBA")  # convert("RGB") would show the colour that transparency hides
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB").resize((32, 32), Image.BILINEAR))
