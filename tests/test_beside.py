"""Layers beside ours, from docs/extending.md: they train, and give in pieces what they give as a whole."""

import pytest
import torch
from test_extending import blocks
from torch import nn

import snn

NAMES = {}
for _, text in blocks("Recurrence, residual blocks, LayerNorm, delays, attention")[:3]:
    exec(text, NAMES)
Attention, Delays, Residual = (NAMES[name] for name in ("Attention", "Delays", "Residual"))


def recurrent(size):
    return snn.Recurrent(snn.SpikingNeuron(4), snn.DualExpIIR(size, 4, 1))


def test_recipes_are_short():
    for _, text in blocks("Recurrence, residual blocks, LayerNorm, delays, attention")[:3]:
        lines = [line for line in text.split("\nclass ")[1].splitlines() if line.strip()]
        assert 5 <= len(lines) <= 9, lines[0]


LAYERS = {
    "recurrent": lambda: recurrent(6),
    "residual": lambda: Residual(snn.DualExpIIR(6, 4, 1), snn.Linear(6, 6), snn.SpikingNeuron(4, threshold=0.1)),
    "residual of recurrent": lambda: Residual(recurrent(6), snn.FirstOrderLowPass(6, 4)),
    "norm": lambda: nn.LayerNorm(6),
    "delays": lambda: Delays(6, 3),
    "attention": lambda: Attention(6, 2),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_gradients_reach_all_parameters(make):
    torch.manual_seed(0)
    net, x = snn.Sequential(snn.Linear(5, 6), make(), snn.Linear(6, 4)), 2 * torch.rand(9, 3, 5)
    y, _ = net(x)
    assert y.shape == (9, 3, 4)
    (y * torch.rand_like(y)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize("make", [make for name, make in LAYERS.items() if name != "attention"])
def test_pieces_and_steps_give_the_whole(make):
    torch.manual_seed(1)
    net, x = snn.Sequential(make(), snn.FirstOrderLowPass(6, 4)), 2 * torch.rand(9, 3, 6)
    with torch.no_grad():
        whole, last = net(x)
        for cuts in ([4, 5], [1, 1, 7], [1] * 9):
            state, parts = None, []
            for piece in x.split(cuts):
                y, state = net(piece, state)
                parts.append(y)
            torch.testing.assert_close(torch.cat(parts), whole)
        state = None
        for x_t, expected in zip(x, whole):
            y, state = net.step(x_t, state)
            torch.testing.assert_close(y, expected)
    few = net(x[:4, :2], None)[1]
    torch.testing.assert_close(net(x[4:, :2], few)[0], whole[4:, :2])


def test_delays_shift_and_mix():
    layer, x = Delays(3, 2), torch.rand(6, 2, 3)
    layer.delay.data = torch.tensor([0.0, 2.0, 0.25])
    y, _ = layer(x)
    assert torch.equal(y[:, :, 0], x[:, :, 0]) and torch.equal(y[2:, :, 1], x[:-2, :, 1]) and not y[:2, :, 1].any()
    torch.testing.assert_close(y[1:, :, 2], 0.75 * x[1:, :, 2] + 0.25 * x[:-1, :, 2])


def test_attention_refuses_a_single_step():
    layer, x = Attention(6, 2), torch.rand(4, 3, 6)
    with pytest.raises(ValueError, match="Attention returns no state to go on from, so it needs the whole sequence"):
        layer.step(x[0])
    for net in snn.Sequential(layer), snn.Sequential(snn.Sequential(layer)):
        with pytest.raises(ValueError, match=r"layer 0 \(Attention\) returns no state to go on from, so it needs"):
            net.step(x[0])
    assert not torch.allclose(layer(x)[0][:2], layer(x[:2])[0])


class TestSteps:
    """A layer has a forward or a step; the other follows from it."""

    @pytest.mark.parametrize("layer", [snn.SpikingNeuron(4), snn.DualExpIIR(5, 4, 1), snn.FirstOrderLowPass(5, 3)])
    def test_a_layer_of_ours_step_by_step(self, layer):
        x, state = 2 * torch.rand(7, 3, 5), None
        whole, _ = layer(x)
        for x_t, expected in zip(x, whole):
            y, state = layer.step(x_t, state)
            assert torch.equal(y, expected)

    def test_a_layer_without_either(self):
        class Empty(snn.Layer):
            pass

        for call in (Empty(), Empty().step):
            with pytest.raises(NotImplementedError, match="Empty needs a forward, or a step"):
                call(torch.rand(3, 2, 4))

    def test_a_layer_with_a_step_checks_its_input(self):
        with pytest.raises(ValueError, match=r"Delays takes \[T, B, \*features\] with at least one step"):
            Delays(3, 2)(torch.rand(0, 2, 3))
