"""Products of dense layers, on the fastest instructions of this CPU.

torch multiplies float32 matrices with MKL, which takes AVX2 on AMD's processors also where they have AVX-512; oneDNN,
which torch carries for convolutions, takes AVX-512 there. Measured on 2 cores, for the shapes of the MLP and of the
associative memory, oneDNN against MKL: on Zen 5 about twice as fast forward and for the input's gradient, and up to 1.4
times for the weight's; on Zen 4, which adds 512 bits in two halves, 1.0 to 1.9 times, and no faster for the weight's.

The rule is fixed by the processor, and not measured in each process, so that a resumed run computes what one without a
break does.
"""

import sys
from functools import cache

import torch
import torch.nn.functional as F
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from snn.kernels import operators


def linear(x, weight, bias=None):
    """Return what torch.nn.functional.linear returns: x `[*, inputs]` -> y `[*, outputs]`."""
    if (
        x.numel() == 0
        or {x.dtype, weight.dtype} != {torch.float32}
        or {x.device.type, weight.device.type} != {"cpu"}
        or torch.is_autocast_enabled("cpu")
        or operators.are_needed()
        or not _faster_on_onednn()
    ):
        return F.linear(x, weight, bias)
    return _Linear.apply(x.reshape(-1, x.shape[-1]).contiguous(), weight, bias).view(*x.shape[:-1], -1)


class _Linear(Function):
    """y = x weight' + bias"""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x, weight), needed, grad = ctx.saved_tensors, ctx.needs_input_grad, grad.contiguous()
        grad_x = _product(grad, weight.t()) if needed[0] else None
        grad_weight = None
        if needed[1]:
            grad_weight = _product(grad.t(), x.t()) if "weight" in _faster_on_onednn() else grad.t() @ x
        return grad_x, grad_weight, grad.sum(0) if needed[2] else None


def _product(a, b, bias=None):
    """Return a b' + bias."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


@cache
def _faster_on_onednn():
    """Return which products are: "input" (forward and the input's gradient) and "weight" (its gradient), or neither."""
    name, features = _host_cpu()
    there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    if not there or not torch.backends.mkl.is_available() or not name.startswith("znver") or "avx512f" not in features:
        return ()
    return ("input",) if name == "znver4" else ("input", "weight")


@cache
def cpu_has_bf16():
    """Whether the CPU has instructions for products in bfloat16; where it has none, one line says so."""
    found = bool({"avx512bf16", "amx-bf16", "bf16"} & _host_cpu()[1])  # the last is Arm's
    if not found:
        print("note: precision bf16: this CPU has no instructions for it; products run in float32", file=sys.stderr)
    return found


def _host_cpu():
    """Return LLVM's name of the CPU, such as znver5, and the set of its features; nothing where LLVM can't tell."""
    try:
        import llvmlite.binding

        features = llvmlite.binding.get_host_cpu_features()
        return llvmlite.binding.get_host_cpu_name(), {name for name, there in features.items() if there}
    except Exception:  # llvmlite comes with Numba; it raises RuntimeError for a processor that it does not know
        return "", set()
