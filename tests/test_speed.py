"""The speed benchmark: that both of its loops train and test what they are handed."""

import argparse
from contextlib import nullcontext

import pytest
import speed
import torch


@pytest.mark.parametrize("loop", ["tutorial", "project"])
def test_a_loop_trains_its_network_epoch_by_epoch(loop, tree, monkeypatch):
    networks = []
    build = speed.build
    monkeypatch.setattr(speed, "build", lambda *named: networks.append(build(*named)) or networks[0])
    monkeypatch.setattr(speed, "tuned", lambda *_: nullcontext())  # it changes the process that tests are in
    cpu = torch.device("cpu")
    speed.start(loop, "SE-Attention", argparse.Namespace(data=tree, images=70, workers=0, precision="fp32", device=cpu))
    for _ in range(2):
        before = [parameter.clone() for parameter in networks[0].parameters()]
        assert speed.epoch_seconds() > 0 and not networks[0].training  # since the test is last
        changed = [not torch.equal(old, new) for old, new in zip(before, networks[0].parameters(), strict=True)]
        assert sum(changed) > len(changed) / 2
