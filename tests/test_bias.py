"""On CUDA the neuron's loop adds the bias of the product before it: in the interpreter, against the reference."""

from unittest import mock

import pytest
import torch
from test_kernels import BOTH, GAUSSIAN, as_for_large_ones, check, fast_kernels, layouts, neuron_and_iir
from torch import nn

import snn
from snn import kernels
from snn.kernels import products, reference
from snn.layers.state import map_tensors


def biased_neuron(of):
    """Return a neuron with a bias of its current, in the loop, or added before on the reference."""

    def run(x, v, r, bias, *constants):
        if of is not reference:
            return of.spiking_neuron(x, v, r, *constants, bias)
        return reference.spiking_neuron(x + bias, v, r, *constants)

    return run


def biased_neuron_and_iir(of):
    def run(x, v, r, psp_1, psp_2, a1, a2, b1, bias, *constants):
        if of is not reference:
            return of.neuron_and_iir(x, (v, r), constants, 0, (psp_1, psp_2), (a1, a2, b1), bias)
        return neuron_and_iir(of)(x + bias, v, r, psp_1, psp_2, a1, a2, b1, *constants)

    return run


@BOTH
@pytest.mark.parametrize("shape, length", [((3, 5, 4), 1), ((3, 5, 4), 9), ((140,), 2)])
def test_a_bias_in_the_loop(shape, length, with_states):
    fast = fast_kernels("cuda")
    for x in layouts(length, shape, fast.device):
        states = [torch.randn(3, *shape, device=x.device) for _ in range(4)]
        coefficients = [0.9 * torch.rand(shape, device=x.device) - 0.45 for _ in range(3)]
        bias, constants = torch.randn(shape, device=x.device), (0.7, with_states, 0.8, GAUSSIAN)
        check(fast, biased_neuron, 1 + x, states[:2], [bias], *constants, with_states=with_states)
        others = [*coefficients, bias]
        check(fast, biased_neuron_and_iir, 1 + x, states, others, *constants, with_states=with_states)


@BOTH
def test_several_features_a_thread_and_samples_a_program(with_states, monkeypatch):
    fast, x, states, coefficients = as_for_large_ones(monkeypatch)
    bias, constants = torch.randn(x.shape[2], device=x.device), (0.7, True, 1.0, GAUSSIAN)
    check(fast, biased_neuron, 1 + x, states[:2], [bias], *constants, with_states=with_states)
    check(fast, biased_neuron_and_iir, 1 + x, states, [*coefficients, bias], *constants, with_states=with_states)


class TestBiasAddedByTheNeuron:
    """On CUDA, of the layer before it; here on the interpreter, whose kernels get all tensors."""

    def network(self):
        torch.manual_seed(0)
        net = snn.Sequential(
            snn.Conv2d(2, 6, 3, padding=1), snn.SpikingNeuron(4), nn.MaxPool2d(2), nn.Flatten(),
            snn.DualExpIIR(24, 4, 1), snn.Linear(24, 20), snn.SpikingNeuron(4, True), snn.Dropout(0.3),
            snn.DualExpIIR(20, 4, 1), snn.Linear(20, 5, bias=False), snn.SpikingNeuron(4),
        ).to(self.device)  # fmt: skip
        with torch.no_grad():
            for parameter in (net[0].weight, net[0].bias, net[5].weight, net[5].bias, net[9].weight):
                parameter.mul_(4)
        return net

    @pytest.fixture(autouse=True)
    def on_cuda(self, monkeypatch):
        self.fast = fast_kernels("cuda")
        self.device = self.fast.device
        self.use = lambda chosen: monkeypatch.setattr(kernels, "_kernels_on", lambda _: chosen)
        self.x = 4 * torch.rand(9, 2, 2, 4, 4, device=self.device)

    def calls(self, net):
        """Return whether each call of a product has a bias, and the run's output, end and gradients."""
        torch.manual_seed(1)
        with mock.patch("snn.layers.linear.linear", side_effect=products.linear) as linear:
            y, end = net(self.x)
        seen = [len(call.args) == 3 and call.args[2] is not None for call in linear.call_args_list]
        trained = [p for p in net.parameters() if p.requires_grad]
        return seen, y, end, torch.autograd.grad((y * torch.arange(5, device=self.device)).sum(), trained)

    def test_gives_what_the_layer_gives(self):
        results = []
        for adds in (True, False):
            self.fast.adds_bias = adds
            self.use(self.fast)
            results.append(self.calls(self.network()))
        (without, y, end, grads), (within, *expected) = results
        assert (without, within) == ([False, False], [True, False]) and y.sum() > 10
        for mine, other in zip((y, *grads), (expected[0], *expected[2])):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
        map_tensors(lambda a, b: torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5), end, expected[1])

    @pytest.mark.parametrize("bf16", [False, True])
    def test_hooks_see_the_sum_and_change_nothing(self, bf16):
        """One on the product leaves its bias to it; one on the neuron, as in every evaluation, gets the loop's sum."""
        self.use(self.fast)
        with torch.autocast(self.device, torch.bfloat16, enabled=bf16):
            expected = self.calls(self.network())
            for watched, within in ((5, True), (6, False)):
                net, seen = self.network(), {}
                net[watched].register_forward_hook(lambda _, x, y, seen=seen: seen.update(zip("xy", (x[0], y))))
                net[4].register_forward_hook(lambda _, x, y, seen=seen: seen.update(psp=y[0]))
                got = self.calls(net)
                assert got[0] == [within, False]
                current = seen["x" if watched == 6 else "y"]
                total = seen["psp"].float() @ net[5].weight.t() + net[5].bias
                rounding = {"rtol": 2**-7, "atol": 0.2} if bf16 else {}
                torch.testing.assert_close(current.view_as(total).float(), total, **rounding)
                if watched == 6:
                    assert current.dtype == torch.float32 and torch.equal(got[1], expected[1])

    def test_frozen(self):
        self.use(self.fast)
        net = self.network()
        for layer in (net[0], net[5]):
            layer.bias.requires_grad_(False)
        without, *_, grads = self.calls(net)
        expected = self.calls(self.network())[3]
        names = [name for name, _ in self.network().named_parameters()]
        kept = [grad for name, grad in zip(names, expected) if name not in ("0.bias", "5.bias")]
        assert without == [False, False] and all(map(torch.equal, grads, kept))
