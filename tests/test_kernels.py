"""The compiled kernels against the reference: values and all gradients, any shape, layout, state and length."""

import ctypes
import gc
import sys
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import snn
from snn import kernels
from snn.kernels import reference
from snn.layers.state import map_tensors


def fast_kernels(name):
    pytest.importorskip({"cpu": "numba", "cuda": "triton"}[name])
    from importlib import import_module

    from snn.kernels.autograd import CompiledKernels

    made = CompiledKernels(import_module(f"snn.kernels.{name}"), adds_bias=name == "cuda")
    made.device = "cuda" if name == "cuda" and torch.cuda.is_available() else "cpu"
    made.interpreted = name == "cuda" and made.device == "cpu"
    return made


@pytest.fixture(params=["cpu", "cuda"])
def fast(request):
    return fast_kernels(request.param)


GAUSSIAN = snn.surrogates.Gaussian()
# Every length at the shape that has whole vectors, a rest, and the layouts of images; 600: more than a block.
CASES = [*(((3, 5, 4), length) for length in (1, 2, 3, 13)), ((1,), 2), ((600,), 13)]


def small_enough(shape, fast):
    """Return the shape, or one of fewer features for the interpreter, where a block is smaller."""
    return (140,) if shape == (600,) and fast.interpreted else shape


def neuron_and_iir(of):
    """Return a neuron and the synapse behind it as one kernel: in one loop, or after each other on the reference."""

    def run(x, v, r, psp_1, psp_2, a1, a2, b1, *constants):
        if of is not reference:
            return of.neuron_and_iir(x, (v, r), constants, 0, (psp_1, psp_2), (a1, a2, b1))
        spikes, *neuron_states = reference.spiking_neuron(x, v, r, *constants)
        psp, *synapse_states = reference.dual_exp_iir(spikes, psp_1, psp_2, a1, a2, b1)
        return psp, *neuron_states, *synapse_states

    return run


def kernel_of(kernels, name):
    return name(kernels) if callable(name) else getattr(kernels, name)


def check(fast, name, x, states, others, *constants, with_states):
    """Compare the same call of both: outputs, and all gradients for random gradients into every output."""
    results = []
    for kernel in (kernel_of(fast, name), kernel_of(reference, name)):
        inputs = [tensor.detach().clone().requires_grad_() for tensor in (*states, *others)]
        # x keeps its layout: an expanded or permuted view stays one
        x_leaf = x.detach().requires_grad_()
        given = inputs[: len(states)] if with_states else [None] * len(states)
        outputs = kernel(x_leaf, *given, *inputs[len(states) :], *constants)
        torch.manual_seed(7)
        grads = [torch.randn(y.shape).to(y.device) for y in outputs]
        used = list(zip(outputs, grads)) if with_states else list(zip(outputs[:1], grads))
        leaves = [x_leaf, *(inputs if with_states else inputs[len(states) :])]
        total = sum((y * g).sum() for y, g in used)
        results.append((outputs, torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)))
    for mine, expected in zip(results[0][0], results[1][0]):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)
    for mine, expected in zip(results[0][1], results[1][1]):
        scale = max(expected.abs().max().item(), 1e-3)
        torch.testing.assert_close(mine / scale, expected / scale, rtol=1e-4, atol=1e-5)


def layouts(length, shape, device):
    """Return sequences in the layouts that networks produce: dense, one step repeated, batch first, channels last."""
    yield torch.randn(length, 3, *shape, device=device)
    yield torch.randn(3, *shape, device=device).expand(length, 3, *shape)
    yield torch.randn(3, length, *shape, device=device).transpose(0, 1)
    if len(shape) == 3:
        yield torch.randn(length, 3, *shape[1:], shape[0], device=device).movedim(-1, 2)


BOTH = pytest.mark.parametrize("with_states", [False, True])


@pytest.mark.parametrize("shape, length", CASES)
class TestEqualsReference:
    @BOTH
    def test_dual_exp_iir(self, fast, shape, length, with_states):
        shape = small_enough(shape, fast)
        for x in layouts(length, shape, fast.device):
            states = [torch.randn(3, *shape, device=x.device) for _ in range(2)]
            a1, a2 = (0.9 * torch.rand(shape, device=x.device) - 0.45 for _ in range(2))  # stable
            b1 = torch.randn(shape, device=x.device)
            check(fast, "dual_exp_iir", x, states, [a1, a2, b1], with_states=with_states)

    @BOTH
    def test_first_order(self, fast, shape, length, with_states):
        shape = small_enough(shape, fast)
        for x in layouts(length, shape, fast.device):
            states, a1 = [torch.randn(3, *shape, device=x.device)], torch.rand(shape, device=x.device)
            check(fast, "first_order_low_pass", x, states, [a1], with_states=with_states)

    @pytest.mark.parametrize(
        "with_states, membrane_filter, threshold, surrogate",
        [(False, False, 1.2, snn.surrogates.FastSigmoid()), (True, True, 0.8, snn.surrogates.Gaussian(0.7))],
    )
    def test_neuron(self, fast, shape, length, with_states, membrane_filter, threshold, surrogate):
        surrogate = GAUSSIAN if shape == (600,) else surrogate  # each loop takes seconds to compile
        shape = small_enough(shape, fast)
        for x in layouts(length, shape, fast.device):
            states = [torch.randn(3, *shape, device=x.device) for _ in range(2)]
            constants = 0.7, membrane_filter, threshold, surrogate
            check(fast, "spiking_neuron", 1 + x, states, [], *constants, with_states=with_states)

    @pytest.mark.parametrize(
        "with_states, membrane_filter, threshold, surrogate",
        [(False, False, 1.0, GAUSSIAN), (True, True, 0.8, snn.surrogates.ATan(3.0))],
    )
    def test_neuron_and_iir(self, fast, shape, length, with_states, membrane_filter, threshold, surrogate):
        surrogate = GAUSSIAN if shape == (600,) else surrogate  # each loop takes seconds to compile
        shape = small_enough(shape, fast)
        for x in layouts(length, shape, fast.device):
            states = [torch.randn(3, *shape, device=x.device) for _ in range(4)]
            coefficients = [0.9 * torch.rand(shape, device=x.device) - 0.45 for _ in range(2)]
            coefficients.append(torch.randn(shape, device=x.device))
            constants = 0.7, membrane_filter, threshold, surrogate
            check(fast, neuron_and_iir, 1 + x, states, coefficients, *constants, with_states=with_states)

    @BOTH
    def test_output_filter(self, fast, shape, length, with_states):
        shape = small_enough(shape, fast)
        for x in layouts(length, shape, fast.device):
            states = [torch.randn(3, *shape, device=x.device) for _ in range(2)]
            check(fast, "dual_exp_filter", x, states, [], 0.9, 0.6, 1.7, with_states=with_states)


def as_for_large_ones(monkeypatch):
    """Return CUDA's kernels, launched as for large sequences, and an x, four states and three coefficients.

    The last vector of features and the last program's samples are not whole.
    """
    monkeypatch.setattr("snn.kernels.launched.MANY", 1)
    monkeypatch.setattr("snn.kernels.launched.PROGRAMS", 2)
    fast, features = fast_kernels("cuda"), 132
    x = torch.randn(7, 3, features, device=fast.device)
    states = [torch.randn(3, features, device=x.device) for _ in range(4)]
    return fast, x, states, [0.9 * torch.rand(features, device=x.device) - 0.45 for _ in range(3)]


@BOTH
def test_several_features_a_thread_and_samples_a_program(with_states, monkeypatch):
    fast, x, states, coefficients = as_for_large_ones(monkeypatch)
    constants = 0.7, True, 1.0, GAUSSIAN
    check(fast, "dual_exp_iir", x, states[:2], coefficients, with_states=with_states)
    check(fast, "first_order_low_pass", x, states[:1], coefficients[:1], with_states=with_states)
    check(fast, "spiking_neuron", 1 + x, states[:2], [], *constants, with_states=with_states)
    check(fast, neuron_and_iir, 1 + x, states, coefficients, *constants, with_states=with_states)


def test_long_sequences(fast):
    length = 100 if fast.interpreted else 400
    x = torch.randn(length, 2, 20, device=fast.device)
    a1, a2, b1 = (torch.full((20,), c, device=x.device) for c in (1.1, -0.3, 0.4))
    check(fast, "dual_exp_iir", x, [torch.zeros(2, 20, device=x.device)] * 2, [a1, a2, b1], with_states=False)
    zeros = [torch.zeros(2, 20, device=x.device)] * 2
    check(fast, "spiking_neuron", x, zeros, [], 0.7, True, 1.0, GAUSSIAN, with_states=False)


def test_sequences_that_are_written_past_the_caches():
    """From 8 MiB on, with features that fill whole cache lines: here 8.5 MiB."""
    fast, (length, batch, features) = fast_kernels("cpu"), (9, 4, 62_016)
    x = torch.randn(length, batch, features)
    states = [torch.randn(batch, features) for _ in range(4)]
    coefficients = [0.9 * torch.rand(features) - 0.45 for _ in range(3)]
    check(fast, "dual_exp_iir", x, states[:2], coefficients, with_states=True)
    check(fast, neuron_and_iir, 1 + x, states, coefficients, 0.7, False, 1.0, GAUSSIAN, with_states=True)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_any_number_of_threads(threads):
    """Test all ways to share the work: whole samples, some going through time together, and ranges of features."""
    fast = fast_kernels("cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for batch, features in ((21, 130), (70, 59), (2, 4001)):
            x = torch.randn(9, batch, features)
            states = [torch.randn(batch, features) for _ in range(2)]
            coefficients = [0.9 * torch.rand(features) - 0.45 for _ in range(3)]
            check(fast, "dual_exp_iir", x, states, coefficients, with_states=True)
            check(fast, "dual_exp_iir", x, states, coefficients, with_states=False)
            check(fast, "first_order_low_pass", x, states[:1], coefficients[:1], with_states=True)
            check(fast, "spiking_neuron", 1 + x, states, [], 0.7, False, 1.0, GAUSSIAN, with_states=True)
            check(fast, neuron_and_iir, 1 + x, states * 2, coefficients, 0.7, False, 1.0, GAUSSIAN, with_states=True)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("surrogate", snn.surrogates.BUILT_IN.values())
def test_gradients_of_what_is_not_a_number(fast, surrogate):
    """They are none either, so that a run notices."""
    current = torch.full((4, 2, 18), torch.nan, device=fast.device, requires_grad=True)
    spikes, _, _ = fast.spiking_neuron(current, None, None, 0.7, False, 1.0, surrogate())
    (grad,) = torch.autograd.grad(spikes.sum(), current)
    assert grad.isnan().all()


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # in Triton's interpreter
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_a_forward_without_a_backward_keeps_nothing(fast, shape):
    """A graph that held the memory of its own output would never be freed."""
    x = torch.rand(7, 3, *reversed(shape)).permute(0, 1, *range(len(shape) + 1, 1, -1))
    a1, a2, b1 = (torch.rand(shape, requires_grad=True) for _ in range(3))
    constants = 0.7, False, 1.0, GAUSSIAN

    def forward():
        psp = fast.dual_exp_iir(x, None, None, a1, a2, b1)[0]
        fast.first_order_low_pass(psp, None, a1)
        fast.spiking_neuron(psp, None, None, *constants)
        fast.dual_exp_filter(psp, None, None, 0.9, 0.6, 1.7)
        fast.neuron_and_iir(psp, (None, None), constants, 0, (None, None), (a1, a2, b1))

    gc.freeze()  # what other tests have left is not looked at
    try:
        forward()
        gc.collect()
        assert not [one for one in gc.get_objects() if "Backward" in type(one).__name__]
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("membrane_filter", [False, True])
def test_what_is_not_finite_is_gone_a_step_later_unless_potentials_leak(fast, membrane_filter):
    x = torch.full((5, 2, 18), 3.0, device=fast.device)
    x[1, 0, :9], x[1, 1, 3:] = torch.inf, torch.nan
    constants = 0.7, membrane_filter, 1.0, GAUSSIAN
    results = []
    for of in fast, reference:
        current = x.clone().requires_grad_()
        spikes, v, r = of.spiking_neuron(current, None, None, *constants)
        (grad,) = torch.autograd.grad(spikes.sum(), current)
        results.append((spikes, v, r, grad))
    torch.testing.assert_close(*results, equal_nan=True)
    spikes, v, *_ = results[0]
    assert v.isfinite().all() != membrane_filter and spikes[:2, 0].all()
    coefficients = [torch.full((18,), value, device=fast.device) for value in (0.5, 0.1, 1.0)]
    psp = fast.neuron_and_iir(x, (None, None), constants, 0.0, (None, None), coefficients)[0]
    torch.testing.assert_close(psp, fast.dual_exp_iir(spikes.detach(), None, None, *coefficients)[0])


def test_second_derivatives_raise(fast):
    """Also those of given inputs, for which autograd goes around what lies behind a node without gradients."""
    x, a = torch.randn(4, 2, 3, device=fast.device, requires_grad=True), torch.tensor(0.5, device=fast.device)
    constants = 0.7, False, 1.0, GAUSSIAN
    coefficients = [a.expand(3).clone().requires_grad_() for _ in range(3)]
    results = [
        result
        for of in (fast, reference)
        for result in (
            of.spiking_neuron(x, None, None, *constants)[0],
            of.dual_exp_iir(x, None, None, *coefficients)[0],
            of.first_order_low_pass(x, None, coefficients[0])[0],
            of.dual_exp_filter(x, None, None, 0.5, 0.4, 1.0)[0],
        )
    ]
    results.append(fast.neuron_and_iir(x, (None, None), constants, 0.0, (None, None), coefficients)[0])
    results.append(fast.dropout(x, 0.5))
    for result in results:
        with pytest.raises(RuntimeError, match="differentiated twice"):
            torch.autograd.grad(result.sum(), x, create_graph=True)


def test_another_default_dtype(fast):
    torch.set_default_dtype(torch.float64)
    try:
        x = torch.rand(4, 2, 18, dtype=torch.float32, device=fast.device)
        results = fast.spiking_neuron(x, None, None, 0.7, False, 1.0, GAUSSIAN)
        assert {tensor.dtype for tensor in results} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_b1_of_zero_still_learns(fast):
    x = torch.randn(6, 2, 4, device=fast.device)
    coefficients = [torch.full((4,), c, device=x.device) for c in (1.1, -0.3, 0.0)]
    check(fast, "dual_exp_iir", x, [torch.zeros(2, 4, device=x.device)] * 2, coefficients, with_states=False)


def test_a_gradient_into_the_final_state_alone(fast):
    """Even if the filter started from zero and does not save its input."""
    x = torch.randn(5, 2, 30, device=fast.device)
    results = []
    for kernel in (fast.dual_exp_iir, reference.dual_exp_iir):
        torch.manual_seed(1)
        inputs = [x.clone().requires_grad_()] + [torch.rand(30, device=x.device, requires_grad=True) for _ in range(3)]
        _, last, before = kernel(inputs[0], None, None, *inputs[1:])
        results.append(torch.autograd.grad((last * 3 + before**2).sum(), inputs))
    for mine, expected in zip(*results):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_dropout(fast):
    rows = 60 if fast.interpreted else 200
    x = torch.randn(rows, 501, device=fast.device, requires_grad=True)
    y = fast.dropout(x, 0.3)
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / 0.7)
    assert abs(kept.float().mean() - 0.7) < 5 * (0.3 * 0.7 / x.numel()) ** 0.5
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, kept / 0.7)
    other = fast.dropout(x, 0.3) != 0
    columns = kept.float().mean(0)
    for agree in (other == kept, kept[1:] == kept[:-1], kept[:, 1:] == kept[:, :-1]):  # independent: 0.7^2 + 0.3^2
        assert abs(agree.float().mean() - 0.58) < 5 * (0.58 * 0.42 / x.numel()) ** 0.5
    assert columns.std().item() == pytest.approx((0.3 * 0.7 / rows) ** 0.5, rel=0.15)
    torch.manual_seed(3)
    first = fast.dropout(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(fast.dropout(x, 0.3), first)


def make_network(dropout=0.0):
    """Return a convolution and dense network whose weights are large enough for every layer to spike."""
    torch.manual_seed(0)
    net = snn.Sequential(
        snn.DualExpIIR((2, 8, 8), 4, 1), nn.Conv2d(2, 20, 3, padding=1), snn.SpikingNeuron(4),
        snn.DualExpIIR((20, 8, 8), 4, 1), nn.MaxPool2d(2), nn.Flatten(),
        snn.FirstOrderLowPass(320, 4), nn.Linear(320, 40), snn.SpikingNeuron(4, True), snn.Dropout(dropout),
        snn.DualExpIIR(40, 4, 1), nn.Linear(40, 5), snn.SpikingNeuron(4),
    )  # fmt: skip
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.weight.mul_(3)
    return net


@pytest.mark.parametrize("keep_state", [False, True])
def test_a_network_over_several_training_steps(keep_state):
    fast = fast_kernels("cpu")
    runs = []
    for chosen in (fast, reference):
        net = make_network()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        state, losses, spikes = None, [], []
        with mock.patch.object(kernels, "_kernels_on", lambda _, chosen=chosen: chosen):
            for step in range(4):
                generator = torch.Generator().manual_seed(step)
                x = 3 * torch.rand(12, 6, 2, 8, 8, generator=generator)
                y, end = net(x, state)
                if keep_state:
                    state = map_tensors(torch.Tensor.detach, end)
                loss = F.cross_entropy(y.sum(0), torch.arange(6) % 5)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                spikes.append(y)
        runs.append((losses, spikes, net))
    (fast_losses, fast_spikes, fast_net), (losses, spikes, net) = runs
    assert spikes[-1].sum() > 10
    assert losses == pytest.approx(fast_losses, rel=1e-4)
    for mine, expected in zip(fast_spikes, spikes):
        assert (mine != expected).float().mean() < 0.01  # a potential at the threshold may fall either way
    for mine, expected in zip(fast_net.parameters(), net.parameters()):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize("features", [30, 600])
@BOTH
def test_dropout_between_a_neuron_and_the_synapse_behind_it(fast, features, with_states):
    """In one loop as in three: the same mask, values and gradients."""
    (features,) = small_enough((features,), fast)
    x = 1 + torch.randn(9, 3, features, device=fast.device)
    given = [torch.randn(3, features, device=fast.device) for _ in range(4)] if with_states else [None] * 4
    coefficients = [0.9 * torch.rand(features, device=fast.device) - 0.45 for _ in range(3)]
    leaves = [x, *(given if with_states else []), *coefficients]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    (v, r, psp_1, psp_2), coefficients, constants = given, leaves[-3:], (0.7, True, 1.0, GAUSSIAN)

    def in_one_loop():
        return fast.neuron_and_iir(x, (v, r), constants, 0.3, (psp_1, psp_2), coefficients)

    def in_three():
        spikes, *neuron_states = fast.spiking_neuron(x, v, r, *constants)
        psp, *synapse_states = fast.dual_exp_iir(fast.dropout(spikes, 0.3), psp_1, psp_2, *coefficients)
        return psp, *neuron_states, *synapse_states

    results = []
    for run in (in_one_loop, in_three):
        torch.manual_seed(5)
        outputs = run()
        weights = [torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.device) for y in outputs]
        total = sum((y * weight).sum() for y, weight in zip(outputs, weights))
        results.append((*outputs, *torch.autograd.grad(total, leaves)))
    for mine, expected in zip(*results):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("keep_state", [False, True])
def test_hooks_see_the_spikes_and_change_nothing(keep_state):
    """A neuron with a hook runs in a loop of its own, and the network computes the same."""
    net, seen = make_network(dropout=0.3), []
    x = 3 * torch.rand(12, 6, 2, 8, 8)
    state = map_tensors(torch.Tensor.detach, net(x)[1]) if keep_state else None
    torch.manual_seed(1)
    expected, expected_end = net(x, state)
    handles = [net[k].register_forward_hook(lambda _, __, y: seen.append(y[0])) for k in (2, 8)]
    torch.manual_seed(1)
    y, end = net(x, state)
    for handle in handles:
        handle.remove()
    assert [set(spikes.unique().tolist()) for spikes in seen] == [{0, 1}] * 2
    assert torch.equal(y, expected)
    map_tensors(lambda a, b: torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5), end, expected_end)


def test_a_layer_that_returns_no_state_is_an_error():
    class Forgets(nn.Module):
        stateful = True

        def forward(self, x, state):
            return x

    for steps in (2, 4):  # two steps could be taken for a pair
        with pytest.raises(ValueError, match=r"layer 0 .Forgets. .* must return \(y, state\) to unpack, not Tensor"):
            snn.Sequential(Forgets(), nn.Linear(3, 2))(torch.rand(steps, 2, 3))


def test_a_global_hook_and_a_replaced_forward_are_watched():
    net, seen = make_network(), []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda layer, _, __: seen.append(layer))
    try:
        net(torch.rand(3, 2, 2, 8, 8))
    finally:
        handle.remove()
    assert net[2] in seen
    forward = net[2].forward
    net[2].forward = lambda *arguments: seen.append("replaced") or forward(*arguments)
    net(torch.rand(3, 2, 2, 8, 8))
    assert "replaced" in seen


def test_dropout_of_everything():
    net = snn.Sequential(snn.SpikingNeuron(4), snn.Dropout(1.0), snn.DualExpIIR(5, 4, 1))
    assert net(9 * torch.rand(4, 2, 5))[0].count_nonzero() == 0


def test_evaluation_keeps_no_potential():
    loops = fast_kernels("cpu").loops
    with mock.patch.object(loops, "neuron_forward", side_effect=loops.neuron_forward) as forward:
        layer = snn.SpikingNeuron(4)
        x = torch.rand(5, 2, 30, requires_grad=True)
        with torch.no_grad():
            layer(x)
        layer(x)
        seen = [call.args[5] for call in forward.call_args_list]
    assert seen == [False, True]


class TestDispatch:
    def test_double_precision_runs_on_the_reference(self):
        assert kernels.kernels_for(torch.zeros(1, dtype=torch.float64)) is reference
        assert kernels.kernels_for(torch.zeros(1)) is not reference

    def test_without_numba_the_reference_runs_and_one_line_says_so(self, capsys, monkeypatch):
        kernels._kernels_on.cache_clear()
        monkeypatch.delattr(kernels, "cpu", raising=False)
        monkeypatch.setitem(sys.modules, "snn.kernels.cpu", None)
        try:
            assert kernels.kernels_for(torch.zeros(1)) is reference
            assert kernels.kernels_for(torch.zeros(1)) is reference
        finally:
            kernels._kernels_on.cache_clear()
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and "plain torch, which is slower" in lines[0]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_kernels_are_tried_both_ways_whatever_the_caller_does(fast, mode):
    """A first call that only evaluates must not take a backward for one that fails, nor draw a run's random numbers."""
    random = torch.get_rng_state()
    with mode():
        kernels._try(fast, fast.device, every=True)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", ["dual_exp_filter_backward", "neuron_iir_forward"])
def test_a_kernel_that_does_not_compile_is_found_at_the_start(fast, name):
    with mock.patch.object(fast.loops, name, side_effect=RuntimeError("no compiler")), pytest.raises(RuntimeError):
        kernels._try(fast, fast.device, every=True)


class TestNumbasCache:
    @staticmethod
    def compiled():
        from snn.kernels.compiled import Loop

        def loop(task):
            task[0] = 7.0

        return Loop(loop)._compile("", together=False)

    @pytest.mark.parametrize("kind", ["nbi", "nbc"])
    @pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"\xff" * len(b)])
    def test_a_damaged_file_is_made_again(self, kind, damage, tmp_path, monkeypatch):
        pytest.importorskip("numba")
        monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
        assert self.compiled().cache_hits == 0 and self.compiled().cache_hits == 1
        (file,) = tmp_path.rglob(f"*.{kind}")
        file.write_bytes(damage(file.read_bytes()))
        task = (ctypes.c_double * 1)()
        self.compiled().ctypes(task)
        assert task[0] == 7 and self.compiled().cache_hits == 1

    def test_one_line_says_that_loops_compile_and_none_that_they_are_loaded(self, tmp_path, monkeypatch, capsys):
        pytest.importorskip("numba")
        from snn.kernels import compiled

        def said_with(cache):
            monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / cache))
            self.compiled()
            return capsys.readouterr().err.count("note: compiling time loops, once")

        compiled.say_that_it_compiles.cache_clear()  # as in a new process
        assert [said_with("one"), said_with("other")] == [1, 0]
        compiled.say_that_it_compiles.cache_clear()
        assert said_with("one") == 0
        next(tmp_path.glob("one/**/*.nbc")).write_bytes(b"")
        assert said_with("one") == 1

    def test_one_that_can_not_be_written_is_named(self, tmp_path, monkeypatch):
        pytest.importorskip("numba")
        monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
        self.compiled()
        (file,) = tmp_path.rglob("*.nbi")
        file.unlink()
        file.mkdir()
        with pytest.raises(snn.UserError, match=f"cache in {file.parent} can't be written .*NUMBA_CACHE_DIR"):
            self.compiled()
