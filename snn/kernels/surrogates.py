"""Surrogate gradients: what the backward pass uses as the derivative ds/dv of a spike, s = 1 if v > threshold else 0.

A surrogate is a small dataclass whose formula is written once and runs in every kernel: plain torch, Numba and Triton.
"""

import math
from dataclasses import dataclass
from types import FunctionType

import torch as m  # each compiled kernel replaces m with its own functions


class Surrogate:
    """Base of all surrogates. Write your own as a dataclass with `constants` and `gradient`.

    `gradient` may use + - * /, `m.exp2`, `m.abs` and `m.sqrt` (from snn.kernels.surrogates import m), and nothing else.
    Each number in it must be one of the three constants, so that all kernels compute in float32.
    """

    @property
    def constants(self):
        """Return three numbers computed from the fields; 0 for an unused one."""
        raise NotImplementedError

    @staticmethod
    def gradient(x, a, b, c):
        """Return ds/dv at x = v - threshold, elementwise, for the three constants."""
        raise NotImplementedError


def formula(gradient, functions):
    """Return the `gradient` of a surrogate class as a new function that calls exp2, abs and sqrt of `functions`.

    Raises ValueError if it uses anything else: a compiled kernel would freeze that value at compile time.
    """
    code = gradient.__code__
    others = set(code.co_names) - {"m", "exp2", "abs", "sqrt"}
    if others or code.co_freevars:
        names = ", ".join(sorted(others | set(code.co_freevars)))
        raise ValueError(f"{gradient.__qualname__} uses {names}; it may use its arguments and m.exp2, m.abs, m.sqrt")
    return FunctionType(code, {"m": functions}, gradient.__name__)


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """exp(-x^2 / (2 sigma^2)) / (sqrt(2 pi) sigma): the paper's (Fang et al. 2020, section 3)."""

    sigma: float = 0.4

    @property
    def constants(self):
        return 1 / (math.sqrt(2 * math.pi) * self.sigma), -0.5 / self.sigma**2 / math.log(2), 0.0

    @staticmethod
    def gradient(x, peak, exponent, _):
        return peak * m.exp2(exponent * x * x)


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """1 / (1 + slope |x|)^2: SuperSpike (Zenke, Ganguli 2018, equation 5)."""

    slope: float = 25.0

    @property
    def constants(self):
        return 1.0, self.slope, 0.0

    @staticmethod
    def gradient(x, one, slope, _):
        root = one + slope * m.abs(x)
        return one / (root * root)


@dataclass(frozen=True)
class ATan(Surrogate):
    """alpha / 2 / (1 + (pi / 2 alpha x)^2): PLIF (Fang, Yu et al. 2021, equation 12)."""

    alpha: float = 2.0

    @property
    def constants(self):
        return self.alpha / 2, 1.0, (math.pi / 2 * self.alpha) ** 2

    @staticmethod
    def gradient(x, half, one, square):
        return half / (one + square * x * x)


BUILT_IN = {surrogate.__name__: surrogate for surrogate in (Gaussian, FastSigmoid, ATan)}
