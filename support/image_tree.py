"""A folder of the user's own pictures, `train/<class>/*` and `test/<class>/*`, as a data set."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from support.dataset import Data, printable
from support.errors import UserError
from support.terminal import bar

PLAIN_MODES = {"1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV"}  # of Pillow's, those of 8 bits a channel
ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}


def visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_picture(path: Path) -> bool:
    """Whether a file's name says that it is a picture which Pillow reads."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    return kind in Image.OPEN and path.is_file()


def refuse_foreign_folder(folder: Path) -> None:
    """Raises UserError for a folder of other things, into which CIFAR-10 is not to be downloaded unasked."""
    names = [path.name for path in visible(folder) if path.is_dir() or is_picture(path)] if folder.is_dir() else []
    if names and not any((folder / name).exists() for name in ("cifar-10-batches-py", "cifar-10-python.tar.gz")):
        raise UserError(
            f"--data {folder}: has {', '.join(names[:3])}, but no folders train and test (in small letters) with a "
            "folder of pictures for each class in both; to download CIFAR-10, give a folder of its own",
            2,
        )


def read_tree(folder: Path) -> Data:
    """The pictures in `train/<class>/*` and `test/<class>/*`, of any kind that Pillow reads, as 32x32 RGB.

    Raises:
        UserError: the layout is another, or a picture cannot be read.
    """

    def fail(reason: str) -> None:
        raise UserError(f"--data {folder}: {reason}", 2)

    def pictures(split: str) -> dict[str, list[Path]]:
        if not (folder / split).is_dir():
            fail(f"the folder {split} is missing beside its counterpart")
        groups = [group for group in visible(folder / split) if group.is_dir()]
        return {group.name: [path for path in visible(group) if is_picture(path)] for group in groups}

    train, test = pictures("train"), pictures("test")
    classes = list(train)
    if len(classes) < 2:
        fail("train needs a folder for each of at least two classes")
    if empty := [name for name in classes if not train[name]]:
        fail(f"no pictures in {folder / 'train' / empty[0]}")
    if unknown := [name for name in test if name not in train]:
        fail(f"test has the class {unknown[0]!r}, which train lacks")
    if not any(test.values()):
        fail(f"no pictures in {folder / 'test'}")

    def decode(groups: dict[str, list[Path]]) -> tuple[Tensor, Tensor]:
        paths = [path for group in groups.values() for path in group]
        images = np.empty((len(paths), 32, 32, 3), np.uint8)
        for i, path in enumerate(bar(paths, "Reading pictures")):
            try:
                images[i] = read_picture(path)
            except Exception as error:  # Pillow's many decoders raise many kinds
                raise UserError(f"--data {folder}: cannot read the picture {path} ({error})", 2) from error
        labels = [classes.index(name) for name, group in groups.items() for _ in group]
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels)

    names = [printable(name) for name in classes]
    return Data(printable(folder.absolute().name), names, *decode(train), *decode(test))


def read_picture(path: Path) -> np.ndarray:
    """One picture as (32, 32, 3) uint8, the way up that its EXIF tag says, on white where it is transparent.

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
