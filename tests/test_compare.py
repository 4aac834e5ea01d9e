"""The comparison of a block with no block, a linear layer and a constant: what it trains, and what it says."""

import argparse
import re
import statistics
import zlib
from functools import partial

import compare
import gains
import pytest
import torch
from helpers import ROOT, load, rows
from in_place import read_build, resnet
from torch import nn
from variants import Gradually, LinearShortcut, SEAttention

from common import CNN, load_data, set_seed
from support.data.dataset import checksum, normalize
from support.run.facts import count_parameters, read_facts, write_facts
from support.run.record import Epoch, write_csv

SCRIPT = """
import torch
from torch import nn
from common import CNN, run

class Mine(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros({parameters}, 1, 1, 1, 1))  # for which there is no channels last

    {gate}def forward(self, x):
        return {forward}

def build(num_classes, block=Mine):
    return CNN(widths=(8, 8), attention=block, num_classes=num_classes)

if __name__ == "__main__":
    run(build, control="{control}")
"""
GATE = "def gate(self, x):\n        return x.mean((2, 3)).sigmoid() + 0 * self.weight.sum()\n\n    "


def write(name, forward, gate="", parameters=1, control="Tiny"):
    text = SCRIPT.format(forward=forward, gate=gate, parameters=parameters, control=control)
    (compare.Path(f"{name}.py")).write_text(text)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cells(text, label):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in line.split(" | ")][1:]


def test_a_block_that_fails_fails_alone_and_an_edited_script_is_trained_anew(tree, here, started, typed):
    def compared(*scripts, seeds):
        started.clear()
        flags = ["--data", tree, "--epochs", 2, "--seeds", seeds, "--jobs", 2, "--out", "runs"]
        return typed(compare, *scripts, *flags)

    write("Same", "x")
    write("Nan", f"x * (float('nan') if torch.initial_seed() == {zlib.crc32(b'0 1')} else 1)")  # seed 0, epoch 1
    status, said, errors = compared("Same.py", "Nan.py", seeds=2)
    assert (status, errors, len(started)) == (1, "", 8)  # the control and the linear layer once a seed
    why, added, _ = cells(said, "Nan")
    assert why.startswith("+0.00 (1 of 2 seeds); failed: Nan.py: the loss of epoch 1 is not finite") and added == "+1"
    assert len(re.findall(r"\| a linear layer in its place \| [+-]\d+\.\d\d ± ", said)) == 2
    assert "Nan cannot be judged: that takes at least two complete seeds." in said

    write("Gate", "x * self.gate(x)[:, :, None, None]", GATE)
    status, said, errors = compared("Same.py", "Gate.py", seeds=2)
    assert (status, errors, len(started)) == (0, "", 4)  # not what is there
    assert cells(said, "Same")[:2] == ["+0.00 ± 0.00", "+1"] and "seeds, Same is exactly as good as its control" in said
    assert re.search(r"seeds, Gate is [^,.]+ its control, [^,.]+ a linear layer and [^,.]+ a constant\.", said)
    assert said.count("| a constant in its place (") == 1 and len(rows(here / "runs/seed1/Gate-constant.csv")) == 3
    assert len(rows(here / "runs/seed1/Tiny-linear.csv")) == 3 and (here / "runs/compare.png").exists()
    assert (here / "runs/compare.md").read_text(encoding="utf-8").strip() in said

    write("Gate", "x * self.gate(x)[:, :, None, None] * 0.5", GATE)
    status, said, errors = compared("Gate.py", seeds=1)
    assert (status, errors, len(started)) == (0, "", 2) and said.startswith("Gate.py was edited.")
    assert {path.name for path in (here / "runs/seed0/earlier").iterdir()} == {"Gate-1", "Gate-constant-1"}

    write("Other", "x", parameters=2, control="Tiny-linear")  # a name that another network has
    assert compared("Other.py", seeds=1)[0] == 2 and started == []


def test_blocks_in_a_resnet(tree, here, started, typed):
    """A gate at the end of each residual branch, another block after the third stage."""
    write("Same", "x")
    write("Gate", "x * self.gate(x)[:, :, None, None]", GATE)
    flags = ["--network", "ResNet-8", "--data", tree, "--seeds", 1, "--out", "runs", "--batch-size", 4, "--epochs"]
    status, said, errors = typed(compare, "Same.py", "Gate.py", *flags, 1)
    assert (status, errors, len(started)) == (0, "", 6)
    facts = read_facts(here / "runs/seed0/Gate-ResNet-8.json")
    assert (facts["batch_size"], facts["lr"]) == (4, resnet.highest_lr(4))
    assert ": ResNet-8. 1 epoch of 15 steps, seed 0, batch size 4, " in said
    assert [cells(said, name)[1] for name in ("Same", "Gate")] == ["+1", "+3"]
    linear = [count_parameters(LinearShortcut(channels)) for channels in (16, 32, 64)]
    assert f"+{linear[2]:,}" in said and f"+{sum(linear):,}" in said and "| a constant in its place (" in said
    of_block, of_control, with_half = (
        rows(here / f"runs/seed0/{name}.csv")[1] for name in ("Same-ResNet-8", "ResNet-8", "Gate-ResNet-8-constant")
    )
    assert of_block == of_control != with_half
    assert "last epoch" in said and (here / "runs/compare-ResNet-8.png").exists()
    status, _, errors = typed(compare, "Same.py", *flags, 2)
    assert (status, len(started)) == (2, 6) and "has epochs 1, not 2" in errors
    status, _, errors = typed(compare, "Same.py", *flags, 1, "--lr", 0.001)
    assert (status, len(started)) == (2, 6) and "--lr is for the scripts' own networks" in errors
    for ending in (".csv", ".json"):  # as after a kill: the run that was stopped is trained, and no other
        (here / f"runs/seed0/Gate-ResNet-8{ending}").unlink()
    status, said, _ = typed(compare, "Gate.py", *flags, 1)
    assert (status, len(started)) == (0, 7) and "was edited" not in said


def test_a_script_in_another_folder_finds_its_own_modules(here):
    (here / "my_layers.py").write_text("from torch.nn import Identity as Mine")
    (here / "Mine.py").write_text(
        "from my_layers import Mine\nfrom common import CNN, run\n"
        "run(lambda num_classes, block=Mine: CNN(attention=block, num_classes=num_classes), control='Tiny')"
    )
    build, control = read_build(here / "Mine.py", "own")
    assert type(build(num_classes=3).features[-1]).__name__ == "Identity" and control == "Tiny"


def test_four_scripts_have_their_steps_named_below_the_lowest_picture_of_each_column(monkeypatch, tmp_path):
    monkeypatch.setattr(gains, "save", lambda figure, path: drawn.append(figure))
    drawn, panel = [], gains.Panel("Mine", [gains.Line("block", "black", {1: [1.0], 2: [2.0]})])
    gains.draw_gain_over_steps(tmp_path / "x.png", [[panel] * 3, [panel, None, None]], "Change")
    named = [(bool(axes.get_xlabel()), bool(axes.get_legend())) for axes in drawn[0].axes]
    assert named == [(below, below) for below in (False, True, True, True, False, False)]


def test_stn_goes_before_a_resnet():
    build, control = read_build(ROOT / "STN-Attention.py", "ResNet-8")
    assert type(build(num_classes=3)[0]).__name__ == "STN" and control == "ResNet-8"


@pytest.mark.parametrize(
    ("accuracies", "says"),
    [
        ([60, 62, 61], "better than its control and better than a linear layer"),
        ([50, 52, 51], "not distinguishable from its control and not distinguishable from a linear layer"),
        ([10, 12, 11], "worse than its control and worse than a linear layer"),
    ],
)
def test_what_the_table_says(accuracies, says, tree, here, started, typed, monkeypatch):
    """Of runs that are there: the block's accuracies, the control's 50, 51 and 52, the linear layer's 51, 51 and 52."""
    write("Mine", "x", parameters=5)
    mine, control, linear = (count_parameters(CNN((8, 8), num_classes=3, attention=block)) for block in (
        lambda _: nn.Linear(1, 4, bias=True), None, LinearShortcut))  # fmt: skip
    data = load_data(str(tree))
    text_checksum = f"{zlib.crc32(compare.Path('Mine.py').read_bytes()):08x}"
    networks = {"Mine": (accuracies, mine), "Tiny": ([50, 51, 52], control), "Tiny-linear": ([51, 51, 52], linear)}
    for name, (of_seeds, parameters) in networks.items():
        for seed, accuracy in enumerate(of_seeds):
            csv = here / f"runs/seed{seed}/{name}.csv"
            csv.parent.mkdir(parents=True, exist_ok=True)
            seconds = 1.26 if name == "Mine" else 1.0
            early, late = ([Epoch(i, 1, 0, 1, test, seconds) for i in numbers] for test, numbers in (
                (0, range(1, 11)), (accuracy, range(11, 22))))  # fmt: skip
            write_csv(csv, early + late)
            facts = {"seed": seed, "lr": 0.001, "batch_size": 64, "precision": "fp32", "checksum": checksum(data)}
            write_facts(csv.with_suffix(".json"), facts | {"parameters": parameters, "script_checksum": text_checksum})
    words = ["Mine.py", "--data", tree, "--epochs", 20, "--seeds", 3, "--out", "runs"]
    monkeypatch.setattr(compare, "draw_gain_over_steps", lambda *_: None)  # it takes longer than all the rest
    status, said, errors = typed(compare, *words)
    assert (status, errors, started) == (0, "", [])
    gain = statistics.mean(accuracies) - 51
    assert cells(said, "Mine")[0].startswith(f"{gain:+.2f} ± ") and cells(said, "Mine")[1] == f"{mine - control:+,}"
    assert cells(said, "Mine")[2].startswith("1.3")
    assert cells(said, "Mine over the linear layer")[0].startswith(f"{statistics.mean(accuracies) - 154 / 3:+.2f} ± ")
    assert f"With these 3 seeds, Mine is {says}." in said and "mean of the last 10 epochs" in said


def test_scripts_that_cannot_be_compared(tree, here, started, typed):
    status, _, errors = typed(compare, "a/My.py", "b/my.py")
    assert status == 2 and "two scripts have the same name" in errors
    scripts = {
        "": "Mine.py: script not found",
        "import nothing_such": "ModuleNotFoundError",
        "x = ": "SyntaxError",
        "raise ValueError('one line\\nand another')": "ValueError: one line",
        "print": "run(build, control=",
        "from common import CNN, run\nrun(CNN, 'Tiny')": "def build(num_classes, block=MyAttention)",
        "from common import CNN, run\nrun(lambda num_classes, block=CNN: CNN(widths=block), 'T')": "without the block",
        SCRIPT.format(forward="x[:, 1:]", gate="", parameters=1, control="T"): "its network fails: RuntimeError: mat1",
        SCRIPT.format(forward="x.nothing()", gate="", parameters=1, control="T"): "no attribute 'nothing' (line 12)",
    }
    for text, why in scripts.items():
        if text:
            (here / "Mine.py").write_text(text)
        status, said, errors = typed(compare, "Mine.py", "--data", tree)
        assert (status, said, errors.count("\n"), started) == (2, "", 1, []) and why in errors, text


def test_a_constant_is_the_one_that_is_closest_to_the_block(tree, here):
    """For a gate about its mean; for a block that starts as the identity, 1."""
    data = load_data(str(tree))

    def constants(script, block=None):
        build = load(script).build
        return compare.closest_constants(partial(build, block=block) if block else build, data, seed=3)

    set_seed(3, epoch=0)
    network = load("CBAM-Attention").build(num_classes=3)
    with torch.no_grad():
        x = network.features[:6](normalize(data.train_images))
        y = network.features[6](x)
    [first, second] = constants("CBAM-Attention")
    distances = [(c * x - y).square().sum().item() for c in (first - 1e-3, first, first + 1e-3)]
    assert distances[1] == min(distances) and 0.1 < second < 0.5
    assert constants("SE-Attention") == pytest.approx([0.5, 0.5], abs=0.05)
    assert constants("SE-Attention", lambda channels: Gradually(SEAttention(channels))) == pytest.approx([1, 1])
    assert constants("STN-Attention") == []
    write("One", "x * self.gate(x)[:, :, None, None]", GATE.replace("sigmoid()", "pow(0)"))
    options = argparse.Namespace(network="own", seeds=[0], out=here, data=str(tree), device=torch.device("cpu"))
    options.precision = "fp32"
    examined = compare.examine(compare.Path("One.py"), data, options)
    assert "constant" not in examined.runs and "the closest one is 1" in examined.gates
