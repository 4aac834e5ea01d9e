"""Blocks put into a trained ResNet-8."""

import csv

import insert
import pytest
import torch
from helpers import ROOT, run

SMALL = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("block", insert.BLOCKS)
def test_what_starts_as_the_identity_leaves_the_network_as_it_was(block):
    torch.manual_seed(0)
    network = insert.ResNet8.build(3).eval()
    before, layers = network(SMALL), len(list(network.modules()))
    insert.insert(network, block)
    stays = block in ("SE-Gradually", "CBAM-Gradually", "Self", "Multi-Head")
    assert network.eval()(SMALL).equal(before) == stays
    assert len(list(network.modules())) > layers


def test_the_first_line_is_the_trained_network(tree, tmp_path):
    flags = ["--data", tree, "--epochs", 1]
    trained = tmp_path / "seed4"
    script = str(ROOT / "benchmarks" / "ResNet-8.py")
    assert run(script, *flags, "--seed", 4, "--out", trained, cwd=tmp_path).status == 0
    typed = [str(ROOT / "benchmarks" / "insert.py"), *flags, "--seeds", 4, "--out", "out", "--trained"]
    result = run(*typed, tmp_path, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.out.count("\n") == 1 + len(insert.BLOCKS)

    def accuracies(path):
        with path.open(newline="") as file:
            return {line["epoch"]: line["test_acc"] for line in csv.DictReader(file)}

    inserted = accuracies(tmp_path / "out" / "seed4" / "ResNet-8.csv")
    assert inserted.keys() == {"0", "1"} and inserted["0"] == accuracies(trained / "ResNet-8.csv")["1"]
    assert (tmp_path / "out" / "seed4" / "ResNet-8-SE.json").exists()
    elsewhere = run(*typed, tmp_path / "none", cwd=tmp_path)
    assert elsewhere.status == 2 and "is not there" in elsewhere.err and elsewhere.err.count("\n") == 1
