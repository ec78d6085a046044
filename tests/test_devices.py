"""Whole runs on a device that isn't the CPU's: no tensor of one meets one of the other."""

import pytest
import torch
from card import CARD, OnCard, card
from torch import nn

import snn

KEYS = {
    "cuda_graph": "never",
    "save_checkpoint": False,
    "hyperparameters": {"length": 4, "batch_size": 8, "epoch": 1},
    "dataset": {"name": "digits", "train_size": 16, "dev_size": 8, "test_size": 8},
}


def network(config):
    return snn.Sequential(
        snn.DualExpIIR(784, 4, 1), snn.Linear(784, 6), snn.SpikingNeuron(4), snn.Dropout(0.3),
        snn.FirstOrderLowPass(6, 4), snn.Linear(6, 10), snn.SpikingNeuron(4),
    )  # fmt: skip


def test_the_card_refuses_what_a_gpu_refuses():
    with card():
        x = torch.ones(3, device=CARD)
        assert isinstance(x + 1, OnCard) and x.is_meta and (x + torch.tensor(2.0)).tolist() == [3, 3, 3]
        assert x.cpu().device.type == "cpu" and x.cpu().tolist() == [1, 1, 1]
        assert nn.Linear(3, 2).to(CARD)(x).device == CARD
        with pytest.raises(RuntimeError, match="expected all tensors on meta"):
            torch.cat([torch.empty(0), x])
        with pytest.raises(RuntimeError, match="expected all tensors on meta"):
            x + torch.ones(3)


@pytest.mark.parametrize("changes", [
    {}, {"encoding": "poisson", "states": "preserved", "ties": "potential"},
    {"optimizer": {"clip": 1}, "hyperparameters": KEYS["hyperparameters"] | {"stable_filters": True, "rate_loss": 1}},
])  # fmt: skip
def test_a_run_keeps_to_its_device(folder, capsys, drawn, changes):
    with card():
        result = snn.train(network, KEYS | {"experiment_name": "of_card"} | changes, verbose=True)
    assert isinstance(next(result.net.parameters()), OnCard)
    assert "of_card on meta: 16 train" in capsys.readouterr().out
