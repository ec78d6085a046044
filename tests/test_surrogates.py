"""Surrogate gradients: values worked out by hand, in every kernel; user-defined formulas and constants."""

import math
import runpy
from dataclasses import dataclass

import pytest
import torch
from test_kernels import fast_kernels

import snn
from snn.kernels import reference, surrogates
from snn.kernels.surrogates import ATan, FastSigmoid, Gaussian, Surrogate, m


@pytest.fixture(params=["reference", "cpu", "cuda"])
def kernels(request):
    return reference if request.param == "reference" else fast_kernels(request.param)


def gradient(kernels, potential, surrogate, threshold=1.0):
    """Return ds/dv at a potential."""
    current = torch.full((1, 1, 3), potential, device=getattr(kernels, "device", "cpu"), requires_grad=True)
    spikes, _, _ = kernels.spiking_neuron(current, None, None, 0.7, False, threshold, surrogate)
    spikes.sum().backward()
    assert (current.grad == current.grad[0, 0, 0]).all()
    return current.grad[0, 0, 0].item()


@pytest.mark.parametrize(
    "surrogate, potential, expected",
    [
        (Gaussian(), 1.0, 1 / (0.4 * math.sqrt(2 * math.pi))),
        (Gaussian(), 1.3, 0.7528),
        (Gaussian(), 0.7, 0.7528),
        (Gaussian(), 0.0, 0.0438),  # exp(-3.125) / (0.4 sqrt(2 pi))
        (Gaussian(0.8), 1.3, 0.4648),
        (FastSigmoid(), 1.0, 1.0),
        (FastSigmoid(25), 1.2, 1 / 36),
        (FastSigmoid(10), 0.5, 1 / 36),
        (ATan(), 1.0, 1.0),
        (ATan(2), 1.0 + 1 / math.pi, 0.5),
        (ATan(4), 1.0 - 1 / (2 * math.pi), 1.0),
    ],
)
def test_values_by_hand(kernels, surrogate, potential, expected):
    assert gradient(kernels, potential, surrogate) == pytest.approx(expected, abs=5e-5)
    assert gradient(kernels, potential - 0.6, surrogate, threshold=0.4) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("surrogate", [Gaussian(0.3), FastSigmoid(7), ATan(3)])
def test_the_area_under_a_surrogate(surrogate):
    """The integral over a step is 1; a fast sigmoid's is 2 / slope, as in SuperSpike."""
    x = torch.linspace(-400, 400, 4_000_001, dtype=torch.float64)
    area = torch.trapezoid(surrogate.gradient(x, *surrogate.constants), x).item()
    assert area == pytest.approx(2 / 7 if isinstance(surrogate, FastSigmoid) else 1, abs=2e-3)


@dataclass(frozen=True)
class Triangle(Surrogate):
    """max(0, width - |x|) / width^2."""

    width: float = 1.0

    @property
    def constants(self):
        return self.width, 1 / self.width**2, 0.5

    @staticmethod
    def gradient(x, width, scale, half):
        return half * scale * (-m.abs(x) + width + m.abs(width - m.abs(x)))  # with a sign in front


def test_one_of_ones_own_runs_in_every_kernel(kernels):
    assert gradient(kernels, 1.25, Triangle()) == pytest.approx(0.75)
    assert gradient(kernels, 1.25, Triangle(0.5)) == pytest.approx(1.0)
    assert gradient(kernels, 2.5, Triangle()) == 0
    current = torch.full((1, 1, 41), 1.25, requires_grad=True)  # in whole vectors too
    snn.SpikingNeuron(4, surrogate=Triangle())(current)[0].sum().backward()
    torch.testing.assert_close(current.grad, torch.full_like(current, 0.75))


FACTOR = 2.0


def of_a_function():
    from snn.kernels.surrogates import m

    return lambda x, a, b, c: a * m.abs(x)


def with_gradient(gradient, values=(1.0, 1.0, 1.0)):
    return type("Mine", (Surrogate,), {"gradient": staticmethod(gradient), "constants": values})()


@pytest.mark.parametrize(
    "surrogate, message",
    [
        (with_gradient(lambda x, a, b, c: FACTOR * x), r"uses FACTOR; it may use its arguments and m.exp2"),
        (with_gradient(of_a_function()), "uses m of the function around it: write it in a module"),
        (with_gradient(lambda x, a, b, c: 0.5 * x), r"uses the number 0.5; .*: return it from `constants`"),
        (with_gradient(lambda x, a, b, c: m.tanh(x)), r"uses tanh; it may"),
        (with_gradient(lambda x, a, b, c: a if x < b else c), "Mine fails: RuntimeError: Boolean value of Tensor"),
        (with_gradient(lambda x, a, b, c: a * (x > b)), "fails in compiled loops: TypeError: a comparison or"),
        (with_gradient(lambda x, a, b, c: m.exp2(x**a)), r"fails in compiled loops: TypeError: .*; it may use its"),
        (with_gradient(lambda x, a, b, c: x.abs()), r"fails in compiled loops: AttributeError: .*; it may use its"),
        (with_gradient(lambda x, a, b, c: a * x, (1.0,)), "Mine fails: TypeError"),
        (with_gradient(lambda x, a, b, c: a / x), "must return one finite number for each x"),
        (with_gradient(lambda x, a, b, c: a), "must return one finite number for each x"),
        (with_gradient(lambda x, a, b, c: a * x, (1.0, math.inf, 0.0)), "must be three finite numbers"),
        (Surrogate(), "Surrogate fails: NotImplementedError"),
        ("ATan", r"surrogate=ATan: pass an object, such as snn.surrogates.ATan\(\)"),
        (snn.surrogates.ATan, r"surrogate=ATan: pass an object, such as snn.surrogates.ATan\(\)"),
    ],
)
def test_what_a_kernel_can_not_compute_is_refused_at_once(surrogate, message):
    with pytest.raises(ValueError, match=message):
        snn.SpikingNeuron(4, surrogate=surrogate)


CHANGED = """
import torch, snn
from snn.kernels.surrogates import Gaussian, m

class Changed(Gaussian):
    @staticmethod
    def gradient(x, peak, exponent, _):
        return {formula} + _ * x

for sigma in (0.4, 0.8):
    x = torch.full((1, 1, 3), 1.3, requires_grad=True)
    snn.SpikingNeuron(4, surrogate=Changed(sigma))(x)[0].sum().backward()
    print(x.grad[0, 0, 0].item())
"""


def test_a_change_reaches_the_compiled_loops_that_were_left_on_disk(tmp_path, capsys):
    """Run a class, then one of the same name and file with another formula; each also with another constant."""
    peak, script = 1 / (0.4 * math.sqrt(2 * math.pi)), tmp_path / "changed.py"
    script.write_text(CHANGED.format(formula="peak"))
    runpy.run_path(script)
    assert numbers(capsys.readouterr().out) == pytest.approx([peak, peak / 2], rel=1e-5)
    script.write_text(CHANGED.format(formula="peak * peak"))
    runpy.run_path(script)
    assert numbers(capsys.readouterr().out) == pytest.approx([peak**2, peak**2 / 4], rel=1e-5)


def numbers(text):
    return [float(line) for line in text.split()]


def test_every_built_in_one_is_exported_by_its_name():
    assert surrogates.BUILT_IN == {"Gaussian": Gaussian, "FastSigmoid": FastSigmoid, "ATan": ATan}
