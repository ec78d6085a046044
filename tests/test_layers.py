"""Layers against SciPy, hand-worked traces, and double-precision autograd of the step-by-step formulas."""

import copy
import math

import pytest
import torch
from scipy.signal import lfilter
from torch import nn

import snn
from benchmarks import step_by_step as steps
from snn.kernels import reference
from snn.layers.layer import hidden_layers
from snn.layers.sequential import synapse
from snn.look.health import filters_in


def loop(step, x, state, *constants):
    """Run the plain formulation: a step function over x `[T, ...]`."""
    outputs = []
    for x_t in x.unbind(0):
        y, state = step(x_t, state, *constants)
        outputs.append(y)
    return (torch.stack(outputs), *state)


def check_equal(fast, plain, inputs):
    """Compare the outputs of two functions and the gradients of all inputs, for random gradients into every output."""
    results = [function(*inputs) for function in (fast, plain)]
    grads = [torch.randn_like(y) for y in results[0]]
    gradients = []
    for outputs in results:
        total = sum((y * g).sum() for y, g in zip(outputs, grads))
        gradients.append(torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True))
    for mine, expected in zip([*results[0], *gradients[0]], [*results[1], *gradients[1]]):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("length", [1, 2, 3, 40])
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3, 5)])
class TestGradients:
    def test_dual_exp_iir(self, length, shape):
        coefficients = [(0.4 * torch.randn(shape, dtype=torch.float64)).requires_grad_() for _ in range(3)]
        inputs = [random(length, 3, *shape), random(3, *shape), random(3, *shape), *coefficients]
        check_equal(
            reference.dual_exp_iir,
            lambda x, last, before, *c: loop(steps.dual_exp_iir_step, x, (last, before), *c),
            inputs,
        )

    def test_first_order(self, length, shape):
        inputs = [random(length, 3, *shape), random(3, *shape), random(*shape)]
        inputs[2] = (0.5 * inputs[2]).detach().requires_grad_()
        check_equal(
            reference.first_order_low_pass, lambda x, last, a1: loop(steps.first_order_step, x, (last,), a1), inputs
        )

    @pytest.mark.parametrize("membrane_filter", [False, True])
    def test_neuron(self, length, shape, membrane_filter):
        inputs = [(1 + random(length, 3, *shape)).detach().requires_grad_(), random(3, *shape), random(3, *shape)]
        check_equal(
            lambda *i: reference.spiking_neuron(*i, 0.7, membrane_filter, 1.0, snn.surrogates.Gaussian()),
            lambda x, v, r: loop(steps.neuron_step, x, (v, r), 0.7, membrane_filter),
            inputs,
        )

    def test_output_filter(self, length, shape):
        inputs = [random(length, 3, *shape), random(3, *shape), random(3, *shape)]
        check_equal(
            lambda *i: reference.dual_exp_filter(*i, 0.9, 0.6, 1.7),
            lambda x, m, s: loop(steps.dual_exp_filter_step, x, (m, s), 0.9, 0.6, 1.7),
            inputs,
        )


def test_gradcheck_of_the_smooth_functions():
    a = (0.4 * torch.randn(3, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, p1, p2, a: reference.dual_exp_iir(x, p1, p2, *a), (random(5, 2, 4), random(2, 4), random(2, 4), a)
    )
    assert torch.autograd.gradcheck(reference.first_order_low_pass, (random(5, 2, 4), random(2, 4), random(4)))
    assert torch.autograd.gradcheck(
        lambda x, m, s: reference.dual_exp_filter(x, m, s, 0.9, 0.6, 1.7), (random(5, 2, 4), random(2, 4), random(2, 4))
    )


def test_untrained_coefficients_get_no_gradient():
    layer = snn.DualExpIIR(4, 4, 1, trainable=False)
    x = torch.rand(6, 2, 4, requires_grad=True)
    layer(x)[0].sum().backward()
    assert layer.a1.grad is None and x.grad is not None


@pytest.mark.parametrize("time_constants", [(4, 1), (8, 2)])
def test_filters_equal_lfilter(time_constants):
    x = torch.rand(50, 3, 5)
    layer = snn.DualExpIIR(5, *time_constants)
    expected = lfilter([layer.b1[0].item()], [1, -layer.a1[0].item(), -layer.a2[0].item()], x.numpy(), axis=0)
    torch.testing.assert_close(layer(x)[0], torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-6)

    layer = snn.FirstOrderLowPass(5, time_constants[0])
    expected = lfilter([1], [1, -math.exp(-1 / time_constants[0])], x.numpy(), axis=0)
    torch.testing.assert_close(layer(x)[0], torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-6)


def test_impulse_responses():
    impulse = torch.zeros(30, 1, 1)
    impulse[0] = 1
    k = torch.arange(1, 31.0)
    expected = torch.exp(-k / 4) - torch.exp(-k / 1)
    torch.testing.assert_close(snn.DualExpIIR(1, 4, 1)(impulse)[0].flatten(), expected, rtol=1e-5, atol=1e-6)
    # The gain makes the peak of the continuous response 1: between steps, so just below it here.
    assert snn.DualExpFilter(80, 20)(torch.cat([impulse, torch.zeros(60, 1, 1)]))[0].max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("longest", [3, 24, 400])
def test_spread_filters_have_all_time_scales_and_responses_of_norm_1(longest):
    layer, slowest = snn.DualExpIIR((2, 20), 4, 1), max(longest, 8)
    layer.spread(longest, rotating=0.3)
    impulse = torch.zeros(20 * slowest, 1, 2, 20)
    impulse[0] = 1
    torch.testing.assert_close(layer(impulse)[0].norm(dim=0), torch.ones(1, 2, 20), rtol=0.01, atol=0)
    tau, ring = -1 / layer.poles()[0].flatten().log(), (layer.a1**2 + 4 * layer.a2 < 0).flatten()
    assert ring.tolist() == [False] * 28 + [True] * 12
    steps_, periods = tau[:28].log().diff(), tau[28:]  # which decay by 1/e in each period
    torch.testing.assert_close(steps_, steps_.mean().expand(27), rtol=0.01, atol=1e-3)
    ends = [tau[0].item(), tau[27].item(), periods[0].item(), periods[-1].item()]
    assert ends == pytest.approx([2, slowest, 4, slowest], rel=0.01)
    before = [coefficient.clone() for coefficient in (layer.a1, layer.a2)]
    layer.stabilize()
    assert layer.unstable() == 0 and all(map(torch.equal, before, (layer.a1, layer.a2)))


def test_two_equal_real_poles_do_not_ring():
    class Alpha(snn.Synapse):
        coefficients = ("a",)

        def __init__(self, shape):
            super().__init__(shape)
            self.a = torch.nn.Parameter(torch.full(self.shape, 0.75))

        def roots(self):
            return self.a.detach().expand(2, *self.shape)

    assert filters_in(Alpha(5)) == "5 filters with time constants of 3.48 steps"
    ringing = snn.DualExpIIR(4, 4, 1)
    ringing.a1.data[:], ringing.a2.data[:] = 1.0, -0.5
    assert filters_in(ringing).endswith(" steps, 4 ring")


def test_first_order_filters_are_spread_too():
    layer = snn.layers.sequential.synapse(
        9, {"synapse_type": "first_order", "tau_m": 4, "train_coefficients": True, "length": 64,
            "filters": {"start": "spread", "longest": 0, "rotating": 0.5}},
    )  # fmt: skip
    torch.testing.assert_close(-1 / layer.a1.log(), 2 * 16 ** torch.linspace(0, 1, 9), rtol=1e-3, atol=0)
    assert filters_in(layer) == "9 filters with time constants of 2 to 32 steps"
    impulse = torch.zeros(200, 1, 9)
    impulse[0] = 1
    psp, _ = layer(impulse)
    torch.testing.assert_close(psp.norm(dim=0), torch.ones(1, 9), rtol=1e-3, atol=0)
    torch.testing.assert_close(psp, torch.sqrt(1 - layer.a1**2) * layer.a1 ** torch.arange(200.0)[:, None, None])
    later, _ = layer.step(2 * torch.ones(1, 9), psp[-1])  # one that was trained keeps the gain of the start
    torch.testing.assert_close(later, layer.a1 * psp[-1] + 2 * torch.sqrt(1 - layer.a1**2))


def test_a_gain_is_part_of_a_checkpoint():
    """One that starts as published has none, and does not take another's."""
    spread, published, x = snn.FirstOrderLowPass(5, 4), snn.FirstOrderLowPass(5, 4), torch.rand(6, 2, 5)
    spread.spread(40)
    assert published.state_dict().keys() == {"a1"} and spread.state_dict().keys() == {"a1", "gain"}
    again = snn.FirstOrderLowPass(5, 9)
    again.spread(20)
    again.load_state_dict(spread.state_dict())
    assert torch.equal(again(x)[0], spread(x)[0]) and not torch.equal(again(x)[0], published(x)[0])
    for saved, other in ((spread, published), (published, spread)):
        with pytest.raises(RuntimeError, match="gain"):
            other.load_state_dict(saved.state_dict())


def test_membrane_traces_worked_out_by_hand():
    decay = math.exp(-1 / 2)
    current = torch.tensor([0.8, 1.5, 1.5, 0.3]).view(4, 1, 1)
    spikes, (v, r) = snn.SpikingNeuron(2)(current)
    # v: 0.8, 1.5 (spike, r = 1), 1.5 - 1 = 0.5 (r = d), 0.3 - d (r = d^2)
    assert spikes.flatten().tolist() == [0, 1, 0, 0]
    assert v.item() == pytest.approx(0.3 - decay) and r.item() == pytest.approx(decay**2)

    spikes, (v, r) = snn.SpikingNeuron(2, membrane_filter=True)(current)
    v2 = decay * 0.8 + 1.5  # spike, r = 1
    v3 = decay * v2 + 1.5 - 1  # 1.70: spike, r = d + 1
    v4 = decay * v3 + 0.3 - (decay + 1)
    assert spikes.flatten().tolist() == [0, 1, 1, 0]
    assert v.item() == pytest.approx(v4) and r.item() == pytest.approx(decay * (decay + 1))


def test_no_spike_at_the_threshold():
    assert snn.SpikingNeuron(4)(torch.ones(1, 1, 1))[0].item() == 0


def small_network():
    return snn.Sequential(
        snn.DualExpIIR((1, 6, 6), 4, 1), nn.Conv2d(1, 3, 3), snn.SpikingNeuron(4),
        snn.FirstOrderLowPass((3, 4, 4), 4), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(12, 5), snn.SpikingNeuron(4, True),
    )  # fmt: skip


def test_network_equals_step_by_step_and_can_be_cut_in_time():
    torch.manual_seed(0)
    net = small_network()
    x = 3 * torch.rand(12, 4, 1, 6, 6)
    whole, end = net(x)
    assert 0 < whole.mean() < 1
    assert torch.equal(whole.movedim(0, -1), steps.StepByStep(net)(x.movedim(0, -1)))
    filtered = snn.Sequential(*net, snn.DualExpFilter(4, 1))
    assert torch.equal(filtered(x)[0].movedim(0, -1), steps.StepByStep(filtered)(x.movedim(0, -1)))
    first, state = net(x[:5])
    second, state = net(x[5:], state)
    assert torch.equal(whole, torch.cat([first, second]))
    torch.testing.assert_close(state[0][0], end[0][0])


def test_states_broadcast_over_the_batch_and_get_their_gradient():
    layer, x = snn.DualExpIIR(4, 4, 1), torch.rand(3, 5, 4)
    one = torch.rand(4, requires_grad=True)
    each = one.detach().expand(5, 4).clone().requires_grad_()
    layer(x, (one, one))[0].sum().backward()
    layer(x, (each, each))[0].sum().backward()
    torch.testing.assert_close(one.grad, each.grad.sum(0))


def test_non_contiguous_input_gives_the_same():
    x = torch.rand(5, 3, 8).transpose(0, 1)[..., ::2]
    for layer in (snn.DualExpIIR(4, 4, 1), snn.FirstOrderLowPass(4, 4), snn.SpikingNeuron(4), snn.DualExpFilter(4, 1)):
        assert torch.equal(layer(x)[0], layer(x.contiguous())[0])


@pytest.mark.parametrize("layer", [snn.DualExpIIR((), 4, 1), snn.FirstOrderLowPass((), 4)])
def test_one_filter_alone(layer):
    """Its coefficients and steps have no features."""
    x, found = torch.rand(5, 3), []
    for precision in (torch.float32, torch.float64):
        layer = layer.to(precision)
        found.append(torch.autograd.grad(layer(x.to(precision))[0].sum(), layer.a1)[0])
    torch.testing.assert_close(found[0], found[1].float())


def test_overwriting_an_output_is_noticed():
    layer = snn.DualExpIIR(4, 4, 1)
    y, _ = layer(torch.rand(3, 2, 4))
    y.mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()


def test_a_rank_without_a_sample_runs_modules_that_take_no_empty_batch():
    net = snn.Sequential(snn.Linear(6, 20), nn.AvgPool1d(10), snn.SpikingNeuron(4))
    y, _ = net(torch.rand(5, 0, 6))
    assert y.shape == (5, 0, 2)
    y.sum().backward()
    assert not net[0].weight.grad.any()


def test_an_output_filters_time_constant_may_be_changed():
    x = torch.rand(9, 2, 3)
    layer = snn.DualExpFilter(4, 1)
    layer.tau_m = 8
    assert torch.equal(layer(x)[0], snn.DualExpFilter(8, 1)(x)[0])


@pytest.mark.parametrize("make", [
    snn.SpikingNeuron, lambda tau: snn.DualExpIIR(3, tau, 1), lambda tau: snn.FirstOrderLowPass(3, tau),
    lambda tau: snn.DualExpFilter(tau, 1)(torch.rand(2, 1, 3)),
])  # fmt: skip
def test_a_time_constant_that_nothing_would_train_is_refused(make):
    with pytest.raises(TypeError, match="to train it, write a layer of your own"):
        make(nn.Parameter(torch.tensor(4.0)))


def test_bad_arguments():
    with pytest.raises(ValueError, match="tau_m > tau_s"):
        snn.DualExpIIR(3, 1, 4)
    with pytest.raises(ValueError, match=r"takes \[T, B, 3\], got \[2, 2, 4\]"):
        snn.DualExpIIR(3, 4, 1)(torch.rand(2, 2, 4))
    with pytest.raises(ValueError, match="a state of 1 entries"):
        small_network()(torch.rand(2, 2, 1, 6, 6), (None,))


def test_tensors_on_two_devices_are_refused():
    """Not read at an address that is none."""
    layer, x = snn.DualExpIIR(4, 4, 1), torch.rand(3, 2, 4)
    with pytest.raises(ValueError, match="a tensor is on meta, others on cpu: move layer, input and state to one"):
        copy.deepcopy(layer).to("meta")(x)
    with pytest.raises(ValueError, match="a tensor is on meta"):
        layer(x, (torch.rand(2, 4, device="meta"), torch.rand(2, 4, device="meta")))
    expected = snn.SpikingNeuron(4)(x)[0]
    with torch.device("meta"):  # a default for what is new
        assert torch.equal(snn.SpikingNeuron(4)(x)[0], expected)


def test_a_constant_that_is_a_tensor_is_refused():
    """It would be taken for a sequence."""
    neuron = snn.SpikingNeuron(4)
    neuron.threshold = torch.tensor(0.5)
    with pytest.raises(TypeError, match="a time constant or threshold is a tensor: pass a number"):
        neuron(torch.rand(3, 2, 4))


def test_a_neuron_given_twice_has_two_names():
    neuron, synapse = snn.SpikingNeuron(4), snn.DualExpIIR(9, 4, 1)
    net = snn.Sequential(synapse, nn.Linear(9, 9), neuron, synapse, nn.Linear(9, 2), neuron)
    assert net[2] is neuron and net[5] is not neuron and net[3] is net[0]  # which has parameters to share
    with snn.record(net) as trace:
        y, _ = net(5 * torch.rand(6, 2, 9))
    assert trace.spikes.keys() == {"2", "5"} and torch.equal(trace.spikes["5"], y)
    assert list(hidden_layers(net)) == ["2"] and net[:3][2] is neuron


def test_a_state_that_is_named_is_recorded():
    neuron = snn.SpikingNeuron(4, membrane_filter=True)
    state = torch.full((1, 3), 0.9), torch.zeros(1, 3)
    with snn.record(neuron) as trace:
        neuron(torch.zeros(5, 1, 3), state=state)
    torch.testing.assert_close(trace.v[""][:, 0, 0], 0.9 * neuron.decay ** torch.arange(1.0, 6))


@pytest.mark.parametrize(
    "layer",
    [snn.DualExpIIR(20, 4, 1), snn.FirstOrderLowPass(20, 4), snn.SpikingNeuron(4), snn.DualExpFilter(4, 1)],
    ids=lambda layer: type(layer).__name__,
)
def test_a_state_may_be_changed_in_place(layer):
    """As between the episodes of some samples."""
    found = []
    for in_place in (True, False):
        x, kept = torch.linspace(0, 2, 360).view(6, 3, 20).requires_grad_(), torch.tensor([1.0, 0, 1])[:, None]
        y, state = layer(x)
        is_one = torch.is_tensor(state)
        parts = [part.mul_(kept) if in_place else part * kept for part in ([state] if is_one else state)]
        z, _ = layer(2 * x, parts[0] if is_one else tuple(parts))
        found.append(torch.autograd.grad(y.sum() + z.square().sum(), [x, *layer.parameters()]))
    torch.testing.assert_close(*found)


def test_a_state_that_is_changed_leaves_the_others_to_autograd():
    _, (v, r) = snn.SpikingNeuron(4)(torch.ones(5, 2, 3, requires_grad=True))
    loss = r.square().sum()
    v.mul_(0)
    loss.backward()


@pytest.mark.parametrize("kind, ring", [("dual_exp", ", 10 ring"), ("first_order", "")])
def test_the_config_says_how_filters_are_spread(kind, ring):
    filters = {"start": "spread", "longest": 100, "rotating": 0.25}
    p = {"synapse_type": kind, "tau_m": 4, "tau_s": 1, "train_coefficients": True, "length": 64, "filters": filters}
    assert filters_in(synapse(40, p)) == f"40 filters with time constants of 2 to 100 steps{ring}"


def test_slow_filters_are_stable_as_they_start():
    layer = snn.FirstOrderLowPass(20, 4)
    layer.spread(5000)
    before = layer.a1.clone()
    layer.stabilize()
    assert torch.equal(layer.a1, before) and not layer.unstable()
