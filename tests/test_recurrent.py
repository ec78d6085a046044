"""Recurrent neurons: the compiled loop equals the layers one step at a time, also in pieces and with other synapses."""

import math

import pytest
import torch

import snn
from snn.layers.layer import hidden_layers, spiking_layers
from snn.layers.synapses import Unfiltered
from snn.look import drive


def spread(synapse):
    synapse.spread(40)
    return synapse


SYNAPSES = {
    "dual_exp": lambda n: snn.DualExpIIR(n, 6, 2),
    "first_order": lambda n: snn.FirstOrderLowPass(n, 5),
    "first_order, spread": lambda n: spread(snn.FirstOrderLowPass(n, 5)),
    "none": Unfiltered,
}


def made(size=21, synapse="dual_exp", **options):
    torch.manual_seed(0)
    layer = snn.Recurrent(snn.SpikingNeuron(tau_m=3, **options), SYNAPSES[synapse](size))
    torch.nn.init.normal_(layer.back.weight, std=0.5)
    return layer


def step_by_step(layer, x, state=None):
    return super(snn.Recurrent, layer).forward(x, state)


def gradients(run, layer, x, state=None):
    x = x.clone().requires_grad_()
    y, end = run(x, state)
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    loss = (y * weights).sum() + 0.3 * end[0].sum() + 0.2 * end[1][0].sum() + 0.7 * end[1][1].sum()
    return y, end, torch.autograd.grad(loss, [x, *(p for p in layer.parameters() if p.requires_grad)])


def test_compiled_loop_equals_steps():
    for synapse in SYNAPSES:  # in one test, as each process of tests would compile the loops
        for size, batch, steps in (21, 3, 12), (1, 1, 5), (16, 2, 1), (530, 2, 4):
            check_loop(synapse, size, batch, steps)


def check_loop(synapse, size, batch, steps):
    layer = made(size, synapse)
    x = torch.randn(steps, batch, size) * 2
    y, end, grads = gradients(layer, layer, x)
    y_steps, end_steps, grads_steps = gradients(lambda *a: step_by_step(layer, *a), layer, x)
    assert y.grad_fn.name() == "_RecurrentNeuronBackward" and y.sum() > 0 and torch.equal(y, y_steps)
    torch.testing.assert_close(end, end_steps, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grads, grads_steps, rtol=2e-3, atol=2e-4)


def test_pieces_give_the_whole_on_both_ways():
    layer, x = made(9), torch.randn(11, 2, 9) * 2
    with torch.no_grad():
        y, end = layer(x)
        for run in (layer, lambda *a: step_by_step(layer, *a)):
            first, state = run(x[:4])
            second, last = run(x[4:], state)
            assert torch.equal(torch.cat([first, second]), y)
            torch.testing.assert_close(last, end)
    grads = [gradients(run, layer, x[4:], state)[2] for run in (layer, lambda *a: step_by_step(layer, *a))]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)


def test_weights_of_another_size_are_refused_as_in_a_step():
    layer, x = made(5), torch.rand(3, 2, 8)
    layer.synapse = SYNAPSES["dual_exp"](8)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer(x)


def test_what_comes_back_may_go_through_another_layer():
    layer, x = made(5), torch.rand(3, 2, 5)
    layer.back = torch.nn.Sequential(torch.nn.Linear(5, 2, bias=False), torch.nn.Linear(2, 5, bias=False))
    assert layer(x)[0].shape == x.shape


def test_a_psp_without_the_synapses_state_comes_back():
    layer, x = made(5), torch.randn(4, 2, 5)
    state = 5 * torch.rand(2, 5), None, None
    (y, end), (expected, expected_end) = layer(x, state), step_by_step(layer, x, state)
    assert torch.equal(y, expected) and not torch.equal(y, layer(x)[0])
    torch.testing.assert_close(end, expected_end)


def test_what_is_not_finite_stays_in_one_step_and_one_sample():
    layer, x = made(5), torch.full((6, 5, 5), 2.0)
    x[1, 2, 3] = torch.inf
    y, end = layer(x)
    assert torch.equal(y, step_by_step(layer, x)[0]) and end[1][0].isfinite().all()


@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_in_chunks(steps):
    layer, x = made(5), torch.randn(5, 2, 5) * 2
    whole, parts = (gradients(run, layer, x) for run in (layer, lambda *a: snn.chunked(layer, a[0], steps)))
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)


def test_gradients_reach_the_state():
    layer, x = made(5), torch.randn(7, 2, 5) * 2
    found = []
    for run in (layer, lambda *a: step_by_step(layer, *a)):
        _, state = run(x[:3])
        state = tuple(torch.utils._pytree.tree_map(lambda s: s.detach().clone().requires_grad_(), state))
        psp, of_neuron, (psp_1, psp_2) = state
        state = psp_1, of_neuron, (psp_1, psp_2)  # psp is the synapse's own
        y, _ = run(x[3:], state)
        loss, leaves = (y * torch.linspace(1, 2, y.numel()).view_as(y)).sum(), [*of_neuron, psp_1, psp_2]
        found.append(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)
    assert found[0][2].any()


def test_spikes_come_back_a_step_later_through_the_filter():
    layer = snn.Recurrent(snn.SpikingNeuron(0.1), Unfiltered(2))
    with torch.no_grad():
        layer.back.weight.copy_(torch.tensor([[0.0, 0], [9, 0]]))
    x = torch.zeros(4, 1, 2)
    x[1, 0, 0] = 2
    assert layer(x)[0][:, 0].tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]


def test_what_is_recorded_within_it():
    net, x = snn.Sequential(made(6)), torch.randn(8, 3, 6) * 2
    y, _ = net(x)
    with snn.record(net) as trace:
        assert torch.equal(net(x)[0], y)
    assert torch.equal(trace.spikes["0"], y) and torch.equal(trace.spikes["0.neuron"], y)
    assert trace.v["0.neuron"].shape == trace.psp["0.synapse"].shape == (8, 3, 6)
    assert torch.equal(trace.v["0.neuron"] > 1, y > 0)


class Threshold(snn.Layer):
    """A neuron with nothing but a step."""

    output, states = "spikes", ("v",)

    def step(self, x, state=None):
        return (x > 1).float() + 0.1 * (x - x.detach()), (x,)


def test_a_neuron_of_ones_own_is_recorded_too():
    layer, x = snn.Recurrent(Threshold(), snn.DualExpIIR(4, 4, 1)), 3 * torch.rand(6, 2, 4)
    with snn.record(layer) as trace:
        y, _ = layer(x)
    assert torch.equal(trace.spikes["neuron"], y) and y.any() and trace.v["neuron"].shape == y.shape


def test_weights_with_a_bias():
    layer, x = made(5), torch.randn(6, 2, 5)
    layer.back = snn.Linear(5, 5)
    torch.nn.init.constant_(layer.back.bias, 2)
    assert torch.equal(layer(x)[0], step_by_step(layer, x)[0])


def test_state_without_the_neurons():
    layer, x = made(5), torch.randn(6, 2, 5) * 2
    psp, _, of_synapse = layer(x)[1]
    state = psp, None, of_synapse
    assert torch.equal(layer(x, state)[0], step_by_step(layer, x, state)[0])


@pytest.mark.parametrize("features", [(1,), (20,), (22,), (2, 21)])
def test_input_of_another_size(features):
    x = torch.zeros(3, 2, *features)
    with pytest.raises(ValueError, match=r"Recurrent takes \[T, B, 21\], got \[3, 2, "):
        made(21)(x)


def test_it_is_the_output_of_a_network_that_is_it_alone():
    layer = made(3)
    assert list(spiking_layers(layer)) == [""] and not hidden_layers(layer)


def test_any_neuron_and_shape():
    with pytest.raises(ValueError, match=r"Recurrent takes a synapse of shape \[N\], got \[2, 3\]"):
        snn.Recurrent(snn.SpikingNeuron(4), snn.DualExpIIR((2, 3), 4, 1))
    layer, x = snn.Recurrent(snn.SpikingNeuron(4), snn.DualExpIIR(4, 4, 1)), torch.rand(5, 2, 4).double()
    assert layer.double()(x)[0].dtype == torch.float64


def test_a_step_of_a_subclass_runs():
    class Half(snn.Recurrent):
        def step(self, x, state=None):
            return super().step(x / 2, state)

    own = Half(snn.SpikingNeuron(4), snn.DualExpIIR(5, 4, 1))
    usual = snn.Recurrent(own.neuron, own.synapse)
    usual.back = own.back
    x = 3 * torch.rand(9, 2, 5)
    assert torch.equal(own(x)[0], usual(x / 2)[0]) and not torch.equal(own(x)[0], usual(x)[0])


def test_as_output_what_comes_back_decides_ties_too():
    """Also by a neuron whose time constant was changed after it was made."""
    layer = made(size=4, synapse="first_order")
    layer.neuron.tau_m = 9
    net, x = snn.Sequential(layer), 3 * torch.rand(12, 2, 4)
    net.eval()
    y, _, of_output = drive.run(
        net, {"ties": "potential", "precision": "float32", "hyperparameters": {"chunk": 0, "truncate": 0}}, x
    )
    psp, back = torch.zeros(2, 4), []
    for spikes in y:
        back.append(layer.back(psp))
        psp = layer.synapse.a1 * psp + spikes
    torch.testing.assert_close(of_output, x + torch.stack(back))
    v, reset = x[0] + back[0], torch.zeros(2, 4)
    for of_step, spikes in zip(of_output, y):
        reset, v = math.exp(-1 / 9) * reset, of_step - reset
        assert torch.equal(spikes, (v > 1).float())
        reset += spikes
