"""The speed benchmark: that both of its loops train and test what they are handed."""

import argparse
from contextlib import nullcontext

import pytest
import speed
import torch


@pytest.mark.parametrize("loop", ["tutorial", "project"])
def test_a_loop_trains_its_network_epoch_by_epoch(loop, tree, monkeypatch):
    networks = []

    def build(name, classes):
        networks.append(build_network(name, classes))
        return networks[0]

    build_network = speed.build
    monkeypatch.setattr(speed, "build", build)
    monkeypatch.setattr(speed, "tuned_cpu", lambda *_: nullcontext())  # it changes the process that tests are in
    cpu = torch.device("cpu")
    options = argparse.Namespace(data=str(tree), images=30, batch_size=8, workers=0, precision="fp32", device=cpu)
    speed.start(getattr(speed, loop), "SE-Attention", options)
    for _ in range(2):
        before = [parameter.clone() for parameter in networks[0].parameters()]
        assert speed.epoch_seconds() > 0
        changed = [not torch.equal(old, new) for old, new in zip(before, networks[0].parameters(), strict=True)]
        assert sum(changed) > len(changed) / 2
