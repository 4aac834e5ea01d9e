"""What the README promises: its examples run, its table of flags is the program's."""

import re
from importlib import import_module
from urllib.parse import unquote

import pytest
import torch
from helpers import ROOT, load, run

README = (ROOT / "README.md").read_text(encoding="utf-8")


def example(containing: str) -> str:
    [code] = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if containing in code]
    return code


def test_a_block_in_a_resnet():
    names = {"SEAttention": load("SE-Attention").SEAttention}
    exec(example("resnet18"), names)
    network = names["network"]
    assert sum(isinstance(module, names["SEAttention"]) for module in network.modules()) == 8
    network(torch.randn(2, 3, 64, 64)).sum().backward()


def test_learned_weights_load(finished, monkeypatch):
    monkeypatch.chdir(finished["SE-Attention"][1])
    names = {}
    exec(example("torch.load").replace("num_classes=10", "num_classes=3"), names)  # the small tree's three
    saved = torch.load("plots/SE-Attention.pt", weights_only=True)["model"]
    assert all(value.equal(saved[key]) for key, value in names["network"].state_dict().items())


@pytest.mark.parametrize(("script", "own"), [("SE-Attention", set()), ("CNN", {"--widths", "--hidden", "--dropout"})])
def test_every_flag_is_explained(script, own, tmp_path):
    usage = run(script, "--help", cwd=tmp_path)
    assert usage.status == 0
    flags = set(re.findall(r"--[a-z-]+", usage.out)) - {"--help"}
    assert flags == set(re.findall(r"^\| `(--[a-z-]+)`", README, re.MULTILINE)) | own


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("https://"):
            assert (ROOT / unquote(target)).exists(), target
    headings = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)", README, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_requirements_are_what_is_imported():
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").split():
        import_module(line.partition(">")[0])
