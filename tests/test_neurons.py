"""The neurons that the benchmarks compare with: their formulas, their compiled loops, and their configs."""

import math

import pytest
import torch
from scripts import ROOT

import ecg
import snn
from benchmarks import temporal
from benchmarks.neurons.alif import ALIF
from benchmarks.neurons.brf import BRF
from benchmarks.neurons.common import LeakyIntegrator, Recurrent
from benchmarks.neurons.delays import Delays
from benchmarks.neurons.lif import LIF
from snn import config
from snn.layers.synapses import Unfiltered

SCALE = {LIF: 8, ALIF: 3, BRF: 60}  # of currents that make neurons spike
KINDS = pytest.mark.parametrize("kind", SCALE)


def made(kind, size, surrogate=snn.surrogates.ATan()):  # noqa: B008
    torch.manual_seed(0)
    layer = Recurrent(kind(size, surrogate))
    torch.nn.init.normal_(layer.back.weight, std=0.4 * SCALE[kind] / size**0.5)
    return layer


def step_by_step(layer):
    return lambda x, state=None: super(Recurrent, layer).forward(x, state)


def trained(layer):
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


def gradients(run, layer, x, state=None):
    leaves = [x.clone().requires_grad_(), *trained(layer)]
    y, end = run(leaves[0], state)
    ends = sum(scale * part.sum() for scale, part in enumerate(end[1], 1))
    loss = (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() + ends / y.numel()
    return y, end, torch.autograd.grad(loss, leaves)


@KINDS
@pytest.mark.parametrize("size, batch, steps", [(21, 3, 40), (1, 1, 80), (16, 2, 1), (70, 2, 30)])
def test_compiled_loop_equals_steps(kind, size, batch, steps):
    layer = made(kind, size)
    x = torch.randn(steps, batch, size) * SCALE[kind] + SCALE[kind] / 4
    if steps == 1:
        x *= 20
    y, end, grads = gradients(layer, layer, x)
    y_steps, end_steps, grads_steps = gradients(step_by_step(layer), layer, x)
    assert y.grad_fn.name() == "_SequenceBackward" and y.any() and not y.all() and torch.equal(y, y_steps)
    torch.testing.assert_close(end, end_steps, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grads, grads_steps, rtol=2e-3, atol=2e-4)
    assert steps == 1 or all(grad.any() for grad in grads)


def test_another_surrogate():
    layer, x = made(LIF, 9, snn.surrogates.Gaussian(0.5)), torch.randn(20, 2, 9) * SCALE[LIF]
    found = [gradients(run, layer, x)[2] for run in (layer, step_by_step(layer))]
    torch.testing.assert_close(*found, rtol=2e-3, atol=2e-4)


@KINDS
def test_pieces_give_the_whole_and_gradients_go_through_the_state(kind):
    layer, x = made(kind, 13), (torch.randn(30, 2, 13) * SCALE[kind]).requires_grad_()
    found = []
    for run in (layer, step_by_step(layer)):
        first, state = run(x[:14])
        second, end = run(x[14:], state)
        y = torch.cat([first, second])
        loss = (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() + end[1][1].sum()
        found.append((y, end, torch.autograd.grad(loss, [x, *trained(layer)])))
    whole = layer(x)
    assert whole[0].any() and torch.equal(found[0][0], whole[0]) and torch.equal(found[1][0], whole[0])
    torch.testing.assert_close(found[0][1], whole[1])
    torch.testing.assert_close(found[0][2], found[1][2], rtol=2e-3, atol=2e-4)


def test_the_input_stays_as_it_is_and_float64_runs_too():
    layer, x = made(LIF, 16), torch.randn(6, 2, 16) * 8
    before = x.clone()
    layer(x)
    assert torch.equal(x, before)
    assert layer.double()(x.double())[0].dtype == torch.float64


def states(neuron, currents):
    """Return spikes and states of one neuron, step by step, as numbers."""
    state, found = None, []
    for current in currents:
        spikes, state = neuron.double().step(torch.tensor([[current]], dtype=torch.float64), state)
        found.append([spikes.item(), *(part.item() for part in state[1:])])
    return found


def test_lif_is_the_formula():
    neuron, v, s = LIF(1, snn.surrogates.ATan(), tau_m=(20, 0), threshold=0.6), 0, 0
    for current, found in zip([9, 9, 9, 2, -1], states(neuron, [9, 9, 9, 2, -1])):
        v = math.exp(-1 / 20) * v + (1 - math.exp(-1 / 20)) * current - 0.6 * s
        s = float(v > 0.6)
        assert found == pytest.approx([s, v])


def test_alif_is_the_formula():
    neuron, v, a, s = ALIF(1, snn.surrogates.ATan(), tau_m=(20, 0), tau_adp=(7, 0)), 0, 0, 0
    d, r = math.exp(-1 / 20), math.exp(-1 / 7)
    for current, found in zip([1, 1, 3, 2, -1], states(neuron, [1, 1, 3, 2, -1])):
        a = r * a + (1 - r) * s
        threshold = 0.01 + 1.8 * a
        v = d * v + (1 - d) * current - threshold * s
        s = float(v > threshold)
        assert found == pytest.approx([s, v, a], rel=1e-5)


def test_brf_is_the_formula_and_its_oscillations_decay():
    neuron, u, v, q, s = BRF(1, snn.surrogates.ATan(), omega=(30, 30), offset=(0.5, 0.5)), 0, 0, 0, 0
    currents = [90, 90, 5, 5, -3, 8]
    for current, found in zip(currents, states(neuron, currents)):
        q = 0.9 * q + s
        b = (-1 + math.sqrt(1 - (0.01 * 30) ** 2)) / 0.01 - 0.5 - q
        u, v = u + 0.01 * (b * u - 30 * v + current), v + 0.01 * (30 * u + b * v)
        s = float(u > 1 + q)
        assert found == pytest.approx([s, u, v, q], rel=1e-5)
    assert any(found[0] for found in states(neuron, currents))
    for omega in (5, 85, 1000):  # beyond what dt resolves too
        of_steps = states(BRF(1, snn.surrogates.ATan(), (omega, omega), (0, 0)), [50, *[0] * 300])
        assert math.hypot(*of_steps[-1][1:3]) <= 0.5 + 1e-4


def test_the_readout_is_a_running_mean():
    readout, x = LeakyIntegrator(2, 20), torch.ones(400, 1, 2)
    y, _ = readout(x)
    assert y[0, 0, 0].item() == pytest.approx(1 - math.exp(-1 / 20)) and y[-1].tolist() == [[pytest.approx(1)] * 2]


def test_delays_shift_lines_and_mix_two_steps_between():
    layer, x = Delays(4, longest=6), torch.randn(12, 3, 4)
    assert layer.delay.tolist() == [0, 2, 4, 6]
    y, _ = layer(x)
    for line, delay in enumerate([0, 2, 4, 6]):
        assert torch.equal(y[delay:, :, line], x[: 12 - delay, :, line]) and not y[:delay, :, line].any()
    layer.delay.data = torch.tensor([0.25, 2, 9, -3])
    y, _ = layer(x)
    torch.testing.assert_close(y[1:, :, 0], 0.75 * x[1:, :, 0] + 0.25 * x[:-1, :, 0])
    assert torch.equal(y[6:, :, 2], x[:6, :, 2]) and torch.equal(y[..., 3], x[..., 3])
    snn.stabilize(layer)
    assert layer.delay.tolist() == [0.25, 2, 6, 0] and layer.unstable() == 0


def test_delays_in_pieces_and_their_gradients():
    layer, x = Delays((2, 3), longest=5).double(), torch.randn(11, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    layer.delay.data = torch.tensor([[0.3, 1.6, 2.5], [3.2, 4.7, 0.9]], dtype=torch.float64)
    y, end = layer(x)
    first, state = layer(x[:4])
    second, last = layer(x[4:], state)
    assert torch.equal(torch.cat([first, second]), y) and torch.equal(last, end) and end.shape == (2, 6, 2, 3)
    step, _ = layer.step(x[4], state)
    assert torch.equal(step, y[4])
    run = lambda x, delay: torch.func.functional_call(layer, {"delay": delay}, (x,))[0]  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, layer.delay))


@pytest.mark.parametrize("name", ["lif.LIF", "alif.ALIF", "brf.BRF"])
def test_a_config_chooses_them(name):
    p = {"neuron": f"benchmarks.neurons.{name}", "hidden": [7, 7], "threshold": 0.5}
    p |= {"synapse_type": "benchmarks.neurons.delays.Delays", "surrogate": "FastSigmoid"}
    settings = {"experiment_name": "ecg", "dataset": {"name": "qtdb"}, "hyperparameters": p}
    settings = config.resolve(settings)
    net = ecg.network(settings)
    neurons = [layer for layer in net.modules() if isinstance(layer, (LIF, ALIF, BRF))]
    assert [layer.size for layer in neurons] == [7, 7] and neurons[0].surrogate == snn.surrogates.FastSigmoid()
    assert getattr(neurons[0], "threshold", 0.5) == 0.5
    assert {layer.longest for layer in net.modules() if isinstance(layer, Delays)} == {12}  # half of the length
    assert net(torch.rand(5, 2, 4))[0].shape == (5, 2, 6)
    settings["hyperparameters"]["hidden"] = [7, 8]
    with pytest.raises(snn.UserError, match="needs one size of all layers in hyperparameters.hidden"):
        ecg.network(settings)


SMALL = ["dataset.train_size=4", "dataset.dev_size=4", "dataset.test_size=4", "hyperparameters.epoch=1"]


@pytest.mark.parametrize(
    "name, model",
    [(name, model) for name, of in temporal.BENCHMARKS.items() for model in of.models if model in temporal.OTHERS],
)
def test_networks_of_the_benchmark_have_about_our_size(name, model):
    benchmark = temporal.BENCHMARKS[name]
    settings = config.resolve(ROOT / f"configs/{benchmark.experiment}.yaml")
    ours, other = (temporal.network(of, benchmark, settings) for of in ("trained", model))
    sizes = [sum(parameter.numel() for parameter in trained(net)) for net in (ours, other)]
    assert 1600 < sizes[1] < 1800 if name == "ecg" else sizes[1] == pytest.approx(sizes[0], rel=0.03)
    x = torch.rand(9, 2, benchmark.inputs)
    y, _ = other(x)
    y.square().sum().backward()
    assert y.shape == (9, 2, benchmark.classes) and all(p.grad.isfinite().all() for p in trained(other))


def test_without_filters_a_pixel_has_one_line_and_potentials_may_leak():
    """All of a bank's lines would be alike, and each step that a weight takes would count 64 times."""
    model, benchmark = "leaky neurons", temporal.BENCHMARKS["permuted"]
    settings = config.resolve(ROOT / f"configs/{benchmark.experiment}.yaml", overrides=temporal.OURS[model])
    net = temporal.network(model, benchmark, settings)
    assert net[2].in_features == 1 and net[3].membrane_filter and isinstance(net[1], Unfiltered)


@pytest.mark.parametrize(
    "name, model",
    [("ecg", "BRF"), *(pytest.param("permuted", model, marks=pytest.mark.slow) for model in ("delays", "none"))],
)
def test_a_run_of_the_benchmark(monkeypatch, name, model):
    words = [*SMALL, "hyperparameters.batch_size=4"]
    if name == "permuted":
        words += ["dataset.name=digits", "hyperparameters.length=16"]
    monkeypatch.setitem(temporal.BENCHMARKS, name, temporal.BENCHMARKS[name]._replace(settings=words))
    row = temporal.train(model, 3, name, "no folder")
    assert 0 <= row["dev"] <= 100 and 0 <= row["test"] <= 100 and row["parameters"] > 1000 and row["epoch"] == 0


def test_a_training_that_became_infinite_is_a_row_without_figures(monkeypatch):
    def end(experiment, make, words, task, message="error: epoch 0: the loss or its gradient is not finite"):
        make(config.resolve(ROOT / "configs/ecg.yaml"))
        raise RuntimeError(message)

    monkeypatch.setattr(temporal, "run", end)
    row = temporal.train("none", 3, "ecg", "no folder")
    assert row["parameters"] > 1000 and (row["dev"], row["test"], row["seconds"]) == ("", "", "")
    monkeypatch.setattr(temporal, "run", lambda *arguments: end(*arguments, message="error: no space"))
    with pytest.raises(RuntimeError, match="no space"):
        temporal.train("none", 3, "ecg", "no folder")


def test_table_and_picture_of_the_benchmark():
    rows = [
        {"model": model, "seed": str(seed), "parameters": "1700", "dev": "80", "test": str(80 + place + seed / 10),
         "epoch": "3", "seconds": "60"}
        for place, model in enumerate(temporal.COLORS) for seed in (1, 2, 3)
    ]  # fmt: skip
    rows.pop(-4)  # of BRF
    rows[1] |= dict.fromkeys(("dev", "test", "epoch", "seconds"), "")
    lines = temporal.table(rows, "ecg").splitlines()
    assert "| filters, trained | 1,700 | 80.00 ± 0.00 | 80.20 ± 0.14 (1 of 3 became infinite) | 60 |" in lines
    assert any(line.startswith("| recurrent BRF | 1,700 | 80.00 ± 0.00 (2 seeds) |") for line in lines)
    assert "filters, trained less delays, recurrent LIF: -11.00 points on test, standard error 0.00.  " in lines
    figure = temporal.draw(rows, temporal.BENCHMARKS["ecg"])
    assert "BRF as published, best dev epoch" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(figure.legends[0].get_texts()) == 17
