"""Layers against values computed with the paper's public code; SNN_GOLDEN names the folder that holds layers.npz."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import snn

FOLDER = os.environ.get("SNN_GOLDEN")
pytestmark = pytest.mark.skipif(not FOLDER, reason="SNN_GOLDEN does not name the folder of the reference values")


class Golden:
    def __init__(self, layer):
        self.layer, self.file = layer, np.load(Path(FOLDER) / "layers.npz")

    def __getitem__(self, name):
        return torch.from_numpy(np.array(self.file[f"{self.layer}.{name}"]))

    def leaf(self, name):
        return self[name].requires_grad_()

    def check(self, **values):
        for name, value in values.items():
            expected = self[name]
            assert (value - expected).abs().max() <= 1e-5 * expected.abs().max(), name


@pytest.mark.parametrize("name", ["dual_exp_vec", "dual_exp_map"])
def test_dual_exp_iir(name):
    golden = Golden(name)
    x, last, before = golden.leaf("x"), golden.leaf("state_t1"), golden.leaf("state_t2")
    layer = snn.DualExpIIR(x.shape[2:], 4, 1)
    layer.load_state_dict({key: golden[key] for key in ("a1", "a2", "b1")})
    y, (final_last, final_before) = layer(x, (last, before))
    y.backward(golden["grad_y"])
    golden.check(y=y, final_t1=final_last, final_t2=final_before, grad_x=x.grad)
    golden.check(grad_a1=layer.a1.grad, grad_a2=layer.a2.grad, grad_b1=layer.b1.grad)
    golden.check(grad_state_t1=last.grad, grad_state_t2=before.grad)


def test_first_order():
    golden = Golden("first_order")
    x = golden.leaf("x")
    layer = snn.FirstOrderLowPass(x.shape[2:], 4)
    layer.load_state_dict({"a1": golden["a1"]})
    y, _ = layer(x, golden["state"])
    y.backward(golden["grad_y"])
    golden.check(y=y, grad_x=x.grad, grad_a1=layer.a1.grad)


@pytest.mark.parametrize("membrane_filter", [False, True])
def test_dense_neuron(membrane_filter):
    golden = Golden(f"dense_neuron_membrane_{membrane_filter}")
    psp, weight, bias = golden.leaf("psp"), golden.leaf("weight"), golden.leaf("bias")
    neuron = snn.SpikingNeuron(golden["tau_m"].item(), membrane_filter)
    spikes, (v, r) = neuron(F.linear(psp, weight, bias), (golden["state_v"], golden["state_r"]))
    spikes.backward(golden["grad_spikes"])
    assert torch.equal(spikes, golden["spikes"])
    golden.check(final_v=v, final_r=r, grad_psp=psp.grad, grad_weight=weight.grad, grad_bias=bias.grad)


def test_conv_neuron():
    golden = Golden("conv_neuron")
    psp, weight, bias = golden.leaf("psp"), golden.leaf("weight"), golden.leaf("bias")
    current = F.conv2d(psp.flatten(0, 1), weight, bias, golden["stride"].item(), golden["padding"].item())
    spikes, _ = snn.SpikingNeuron(golden["tau_m"].item())(current.unflatten(0, psp.shape[:2]))
    spikes.backward(golden["grad_spikes"])
    assert torch.equal(spikes, golden["spikes"])
    golden.check(grad_psp=psp.grad, grad_weight=weight.grad, grad_bias=bias.grad)


def test_output_filter():
    golden = Golden("output_filter")
    x = golden.leaf("x")
    y, _ = snn.DualExpFilter(golden["tau_m"].item(), golden["tau_s"].item())(x)
    y.backward(golden["grad_y"])
    golden.check(y=y, grad_x=x.grad)
