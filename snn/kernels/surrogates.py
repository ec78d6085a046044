"""Surrogate gradients: what the backward pass uses as the derivative ds/dv of a spike, s = 1 if v > threshold else 0.

A surrogate is a small dataclass whose formula is written once and runs in every kernel: plain torch, Numba and Triton.
"""

import dis
import math
from dataclasses import dataclass, fields, is_dataclass
from types import FunctionType

import torch as m  # each compiled kernel replaces m with its own functions

from snn.base.names import find_class

ALLOWED = "its arguments and m.exp2, m.abs, m.sqrt, with + - * /"
CONSTANTS = "LOAD_CONST", "RETURN_CONST", "LOAD_SMALL_INT"  # instructions of Python 3.10 to 3.14


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
    code, allowed = gradient.__code__, f"; it may use {ALLOWED}"
    if code.co_freevars:
        around = ", ".join(code.co_freevars)
        raise ValueError(f"{gradient.__qualname__} uses {around} of the function around it: write it in a module")
    others = {*code.co_names} - {"m", "exp2", "abs", "sqrt"}
    if others:
        raise ValueError(f"{gradient.__qualname__} uses {', '.join(sorted(others))}{allowed}")
    loaded = [step.argval for step in dis.get_instructions(code) if step.opname in CONSTANTS]
    numbers = [constant for constant in loaded if isinstance(constant, (int, float))]
    if numbers:
        raise ValueError(f"{gradient.__qualname__} uses the number {numbers[0]}{allowed}: return it from `constants`")
    return FunctionType(
        code, {"m": functions, "__name__": gradient.__module__}, gradient.__name__
    )  # Triton asks for it


class Number:
    """Stands for a number while a formula is checked: it can do what numbers can in every kernel, and nothing else."""

    def _another(self, *_):
        return Number()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = _another

    def _refused(self, *_):
        raise TypeError("a comparison or a condition")

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refused


class Functions:
    """The functions of formulas, for `Number`."""

    @staticmethod
    def exp2(x):
        return -x

    abs = sqrt = exp2


def checked(surrogate):
    """Return a surrogate; raise ValueError that says what is wrong if a kernel can't compute with it."""
    if isinstance(surrogate, (str, type)):
        name = surrogate if isinstance(surrogate, str) else surrogate.__name__
        raise ValueError(f"surrogate={name}: pass an object, such as snn.surrogates.{name}()")
    name = repr(surrogate) if is_dataclass(surrogate) else type(surrogate).__name__  # with the values of its fields
    try:
        constants = list(surrogate.constants)
        values = formula(surrogate.gradient, m)(m.linspace(-2, 2, 9, device="cpu"), *constants)
    except ValueError:
        raise
    except Exception as error:  # somebody else's formula raises anything
        raise ValueError(f"{name} fails: {_said(error)}") from None
    are_numbers = all(isinstance(constant, (int, float)) and math.isfinite(constant) for constant in constants)
    if len(constants) != 3 or not are_numbers:  # a tensor would be taken for an array by the compiled loops
        raise ValueError(f"{name}.constants is {constants}; it must be three finite numbers, 0 for an unused one")
    if not (m.is_tensor(values) and values.shape == (9,) and values.isfinite().all()):
        raise ValueError(f"{name}.gradient must return one finite number for each x")
    try:
        formula(surrogate.gradient, Functions)(*(Number() for _ in range(4)))
    except Exception as error:
        raise ValueError(f"{name}.gradient fails in compiled loops: {_said(error)}; it may use {ALLOWED}") from None
    return surrogate


def make(name, arguments):
    """Return the surrogate that a config names, built in or "module.Class", with these arguments, not yet `checked`.

    Raises ValueError that says what is allowed.
    """
    kind = find_class(name, Surrogate, BUILT_IN)
    try:
        return kind(**arguments)
    except ValueError:
        raise
    except Exception as error:  # of somebody else's class
        names = [field.name for field in fields(kind)] if is_dataclass(kind) else []
        raise ValueError(f"{kind.__name__} takes {', '.join(names) or 'other arguments'} ({_said(error)})") from None


def _said(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class _Positive(Surrogate):
    """A surrogate whose fields must be above 0."""

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"{type(self).__name__} needs a finite {field.name} > 0, got {value!r}")


@dataclass(frozen=True)
class Gaussian(_Positive):
    """exp(-x^2 / (2 sigma^2)) / (sqrt(2 pi) sigma): the paper's (Fang et al. 2020, section 3)."""

    sigma: float = 0.4

    @property
    def constants(self):
        return 1 / (math.sqrt(2 * math.pi) * self.sigma), -0.5 / self.sigma**2 / math.log(2), 0.0

    @staticmethod
    def gradient(x, peak, exponent, _):
        return peak * m.exp2(exponent * x * x)


@dataclass(frozen=True)
class FastSigmoid(_Positive):
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
class ATan(_Positive):
    """alpha / 2 / (1 + (pi / 2 alpha x)^2): PLIF (Fang, Yu et al. 2021, equation 12)."""

    alpha: float = 2.0

    @property
    def constants(self):
        return self.alpha / 2, 1.0, (math.pi / 2 * self.alpha) ** 2

    @staticmethod
    def gradient(x, half, one, square):
        return half / (one + square * x * x)


BUILT_IN = {surrogate.__name__: surrogate for surrogate in (Gaussian, FastSigmoid, ATan)}
