"""The page to explore: it shows, in a browser, the numbers that it holds, and these are what the networks compute."""

import base64
import json
import re
import shutil
import subprocess
import sys

import explore
import numpy as np
import pytest
import torch
from helpers import ATTENTION, ROOT, build, check_refused

from common import load_data
from support.data.dataset import checksum, normalize

PAGE = ROOT / "docs" / "index.html"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
QUIET += ["disable-component-update", "disable-sync"]
VIEWS = [(5, 3, 6, 2, 1), (11, 7, 7, 5, 4)]  # photo, row, column, shape, age


def read(page):
    [text] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def levels(attention):
    """The bytes of packed attention weights: (n, heads, HW, HW)."""
    squares = attention["side"] ** 2
    packed = np.frombuffer(base64.b64decode(attention["bytes"]), np.uint8)
    return packed.reshape(-1, attention["heads"], squares, squares)


@pytest.mark.skipif(not BROWSER, reason="needs Chromium")
def test_a_browser_shows_the_numbers_of_the_view_in_the_address(tmp_path):
    data = read(PAGE.read_text(encoding="utf-8"))
    browsers = []
    for view in VIEWS:  # side by side, since most of the time a browser waits
        flags = [f"--{flag}" for flag in QUIET] + [f"--user-data-dir={tmp_path / str(len(browsers))}", "--dump-dom"]
        address = f"{PAGE.as_uri()}#photo={view[0]}&row={view[1]}&column={view[2]}&shape={view[3]}&epochs={view[4]}"
        browsers.append(subprocess.Popen([BROWSER, *flags, address], stdout=-1, stderr=-3, text=True, encoding="utf-8"))
    for (photo, row, column, shape, age), browser in zip(VIEWS, browsers, strict=True):
        page, _ = browser.communicate(timeout=60)
        articles = dict(re.findall(r'<article id="(.*?)">(.*?)</article>', page, re.DOTALL))

        wanted = {"STN-Attention": [data["stn"]["theta"][age][shape]]}
        for name, network in data["networks"].items():
            wanted[name] = [gates[photo] for gates in network.get("gates", [])]
            for attention in network.get("maps", []):
                side = attention["side"]
                square = row * side // 8 * side + column * side // 8
                wanted[name] += levels(attention)[photo, :, square].tolist()
            likeliest = data["classes"][np.argmax(network["answers"][photo])]
            assert f"answer: {likeliest}" in articles[name]
        for name, values in wanted.items():
            shown = re.findall(r'data-values="(.*?)"', articles[name])
            assert [[float(value) for value in text.split(",")] for text in shown] == values


@pytest.mark.parametrize("saved", [{"facts": {}}, "junk"])
def test_a_checkpoint_that_cannot_be_used_is_one_line(saved, tree, tmp_path, typed):
    torch.save(saved, tmp_path / "Self-Attention.pt")
    flags = [f"--{word}={tmp_path}" for word in ("runs", "shapes", "out")]
    check_refused(
        typed(explore.__file__, "--data", tree, *flags), "is damaged, or of another version of Self-Attention"
    )


def test_the_numbers_are_what_the_networks_compute(tree, tmp_path, monkeypatch):
    data = load_data(str(tree))
    networks = {name: build(name, len(data.classes)).eval() for name in ATTENTION}
    stn = networks.pop("STN-Attention")
    torch.nn.init.normal_(stn.features[0].offset, std=0.1)
    for parameter in (p for network in networks.values() for p in network.features[6].parameters()):
        parameter.data.mul_(4)  # so that weights and gates differ, as after training
    for name, network in [*networks.items(), ("2", stn)]:
        facts = {"checksum": checksum(data), "seed": 0}
        torch.save({"model": network.state_dict(), "facts": facts, "history": [[1]]}, tmp_path / f"{name}.pt")
    monkeypatch.setattr(explore, "load_data", lambda source: data)  # for the drawn shapes too, which take a second
    monkeypatch.setattr(sys, "argv", ["explore.py", *(f"--{word}={tmp_path}" for word in ("runs", "shapes", "out"))])
    explore.main()
    page = read((tmp_path / "index.html").read_text(encoding="utf-8"))

    first = data.test_images[data.test_labels == 0][13 % 8][None]  # of the class in the place of the page's first photo
    for name, network in networks.items():
        x, block, told = network.features[:6](normalize(first)), network.features[6], page["networks"][name]
        if hasattr(block, "weights"):
            weights = block.weights(x).reshape(-1, 64, 64).detach().clamp(2**-6 / 64, 1)
            assert np.allclose(2 ** (levels(told["maps"][0])[0] / 255 * 12 - 6) / 64, weights, rtol=0.02)
        else:
            gate = block.spatial.gate(block.channel(x)) if name == "CBAM-Attention" else block.gate(x)
            assert np.allclose(told["gates"][0][0], gate.detach().flatten(), atol=0.001)
        assert np.allclose(told["answers"][0], network(normalize(first)).softmax(1).detach()[0], atol=0.001)
    assert page["stn"]["epochs"] == [0, 2]
    moved = (torch.eye(2, 3).flatten() + stn.features[0].offset).tolist()
    for before, after in zip(*page["stn"]["theta"], strict=True):
        assert before == [1, 0, 0, 0, 1, 0]
        assert np.allclose(after, moved, atol=0.001)
