"""A run's facts: what they are, where they come from, and in what two runs differ."""

import json
import os
import shutil

import pytest
import torch
from helpers import run

from support.run.facts import differences, from_checkpoint, read_facts, write_facts

FLAGS = [
    "--widths",
    8,
    16,
    "--hidden",
    16,
    "--epochs",
    1,
    "--batch-size",
    16,
    "--lr",
    0.002,
    "--seed",
    3,
    "--device",
    "cpu",
]
MACHINE = ("device", "processor", "threads", "python", "torch")


@pytest.fixture(scope="module")
def trained(tree, tmp_path_factory):
    """A folder with a run of one epoch in it, which no test changes."""
    folder = tmp_path_factory.mktemp("trained")
    assert run("CNN", "--data", tree, *FLAGS, "--out", folder, cwd=folder).status == 0
    return folder


def test_what_a_run_was(trained):
    text = (trained / "CNN-8-16-hidden16.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    network = {"script": "CNN", "widths": [8, 16], "hidden": 16, "parameters": 17843}
    data = {"data": "tiny tree", "checksum": facts["checksum"], "control": None}
    training = {"seed": 3, "batch_size": 16, "lr": 0.002, "precision": "fp32", "device": "cpu"}
    assert list(facts.items())[: len(facts) - 4] == [*network.items(), *data.items(), *training.items()]
    assert facts["processor"] and facts["threads"] >= 1 and facts["torch"] == torch.__version__
    assert text.count("\n") == len(facts) + 2  # a line for each


def test_a_look_takes_them_from_the_checkpoint(trained, tree, tmp_path):
    shutil.copytree(trained, tmp_path / "plots")
    path = tmp_path / "plots" / "CNN-8-16-hidden16.pt"
    saved = torch.load(path, weights_only=True)
    saved["facts"]["processor"] = "another machine's"
    torch.save(saved, path)
    path.with_suffix(".json").unlink()
    result = run("CNN", "--data", tree, *FLAGS, "--seed", 4, "--lr", 1, "--look", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    facts = read_facts(path.with_suffix(".json"))
    assert facts == read_facts(trained / "CNN-8-16-hidden16.json") | {"processor": "another machine's"}


@pytest.mark.parametrize("how", ["--look", "--resume"])
def test_a_checkpoint_from_before_there_were_facts(how, trained, tree, tmp_path):
    """What it does not know is null; its run joins the comparison."""
    shutil.copytree(trained, tmp_path / "plots")
    path = tmp_path / "plots" / "CNN-8-16-hidden16.pt"
    saved = torch.load(path, weights_only=True)
    facts = saved.pop("facts")
    known = ("script", "widths", "hidden", "batch_size", "lr", "seed", "precision")
    saved["settings"] = {key: facts[key] for key in known} | {"data": f"{facts['data']} ({facts['checksum']})"}
    torch.save(saved, path)
    path.with_suffix(".json").unlink()
    flags = [*FLAGS, "--epochs", 2] if how == "--resume" else FLAGS
    result = run("CNN", "--data", tree, *flags, how, cwd=tmp_path, curves=True)
    assert (result.status, result.err) == (0, "") and (tmp_path / "plots" / "comparison.png").exists()
    assert read_facts(path.with_suffix(".json")) == facts | dict.fromkeys(MACHINE)
    assert list(read_facts(path.with_suffix(".json"))) == list(facts)


def test_a_fact_that_is_newer_than_the_checkpoint_is_null():
    assert from_checkpoint({"facts": {"seed": 3}}, {"threads": 1, "seed": 4}) == {"threads": None, "seed": 3}


def test_what_differs():
    assert differences({"seed": 1, "lr": 0.1}, {"seed": 2, "lr": 0.1}, ["seed", "lr"]) == ["seed"]
    assert differences({"seed": 1}, {"seed": None}, ["seed", "lr"]) == ["seed"]
    assert differences({"lr": 0.1}, {"lr": 0.2}, ["seed"]) == []


def test_facts_of_any_kind_are_kept(tmp_path):
    facts = {"script": "注意力 é", "weights": tmp_path, "data": os.fsdecode(b"caf\xe9"), "widths": [1, 2], "lr": 1e-5}
    write_facts(tmp_path / "a.json", facts)
    assert read_facts(tmp_path / "a.json") == facts | {"weights": str(tmp_path)}
    assert "注意力" in (tmp_path / "a.json").read_text(encoding="utf-8")
