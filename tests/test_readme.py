"""What the README promises: its examples run, its table of flags is the program's."""

import re
from importlib import import_module
from urllib.parse import unquote

import pytest
import torch
from helpers import ROOT, load, run
from test_results import own_runs, results
from torch import nn

DOCUMENTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "plots/README.md", "benchmarks/README.md", "docs/attention.md")
}
README = DOCUMENTS["README.md"]


def example(containing: str, document: str = README) -> str:
    [code] = [code for code in re.findall(r"```python\n(.*?)```", document, re.DOTALL) if containing in code]
    return code


def test_a_block_in_a_resnet():
    names = {"SEAttention": load("SE-Attention").SEAttention}
    exec(example("resnet18"), names)
    network = names["network"]
    assert sum(isinstance(module, names["SEAttention"]) for module in network.modules()) == 8
    network(torch.randn(2, 3, 64, 64)).sum().backward()


def test_wrapped_gates_leave_a_pretrained_network_as_it_was():
    names = {"SEAttention": load("SE-Attention").SEAttention}
    exec(example("resnet18"), names)
    torch.manual_seed(0)
    network, x = names["resnet18"](num_classes=10).eval(), torch.randn(2, 3, 64, 64)
    before = network(x)
    exec(example("class Gradually"), names)
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            gate = names["SEAttention"](block.bn2.num_features)
            block.bn2 = nn.Sequential(block.bn2, names["Gradually"](gate))
    assert network.eval()(x).equal(before)


@pytest.mark.parametrize("script", ["Self-Attention", "Multi-Head Attention"])
def test_blocks_with_gamma_leave_a_pretrained_network_as_it_was(script):
    block, x = next(m for m in load(script).build(10).modules() if hasattr(m, "gamma")), torch.randn(2, 64, 8, 8)
    assert block(x).equal(x)


def test_the_worked_example():
    names = {}
    exec(example("scaled = ", DOCUMENTS["docs/attention.md"]), names)
    assert names["scores"].tolist() == [4, 1, 0] and names["scaled"].tolist() == [2, 0.5, 0]
    assert names["weights"].tolist() == pytest.approx([0.74, 0.16, 0.10], abs=0.005)
    assert names["result"].tolist() == pytest.approx([7.86, 2.14], abs=0.005)


@pytest.mark.skipif(own_runs(), reason="there are other runs than the committed ones")
def test_the_readme_s_figures_are_the_committed_runs():
    copy, shapes = results.TASKS
    control = "CNN-32-64-128"
    pairs = [("Self-Attention", control), ("Multi-Head Attention", control), ("Self-Uniform", control)]
    for name, other in [*pairs, ("Self-Local", control), ("Self-Attention", "Self-Uniform")]:
        assert results.interval(results.gains(copy, name, other)) in README, (name, other)
    assert results.interval(results.gains(shapes, "Self-Attention", "Self-Local")) in README


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


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENTS[document]):
        if not target.startswith("https://"):
            assert ((ROOT / document).parent / unquote(target)).exists(), target


def test_requirements_are_what_is_imported():
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").split():
        import_module(line.partition(">")[0])
