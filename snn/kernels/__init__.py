"""The loops over time, behind one dispatch.

A set of kernels is a module with these functions. `x`, `current` and every result that is a sequence are
`[T, B, *features]`; states are `[B, *features]`, or broadcast to that, or None for zeros; coefficients are
`[*features]`; decays and gain are numbers. Dropout is not a loop over time and takes any shape.

    dual_exp_iir(x, psp_1, psp_2, a1, a2, b1)                -> psp, psp[T], psp[T-1]
    first_order_low_pass(x, psp_1, a1)                       -> psp, psp[T]
    spiking_neuron(current, v, r, decay, membrane_filter, threshold, surrogate)    -> spikes, v[T], r[T]
    dual_exp_filter(x, m, s, decay_m, decay_s, gain)         -> y, m[T], s[T]
    dropout(x, p)                                            -> y

A set also says whether it `takes_bf16` sequences (else pass float32), `fuses`: has `neuron_and_iir` too, and
`adds_bias`: its neurons take a `bias` of the current. Its `recurrent_neuron`, of which the layer is the definition, may
be None.

`reference` is the definition, in plain torch, and runs for every device and dtype. `autograd` makes a set of compiled
loops: of `cpu` for the CPU, in Numba, or of `cuda` for CUDA, in Triton. `operators` has the same functions as operators
of torch, for torch.compile, torch.export and torch.vmap, which can't look into compiled loops. The choice is made here,
by the input tensor; layers don't know which kernels they run.
"""

from contextlib import contextmanager
from functools import cache

import torch

from snn.base.output import note
from snn.kernels import operators, reference
from snn.kernels.autograd import CompiledKernels
from snn.kernels.surrogates import Gaussian

_plain = False  # set by `in_plain_torch`


@contextmanager
def in_plain_torch():
    """Let torch.export see the reference's formulas in the block, in place of operators. Eager code stays as it is."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def kernels_for(x):
    """Return the fastest kernels that work on tensor `x`."""
    if operators.are_needed():
        return reference if _plain else operators
    return eager_kernels_for(x)


def eager_kernels_for(x):
    """Return the fastest kernels for code that torch does not trace or transform."""
    return _kernels_on(x.device.type) if x.dtype in (torch.float32, torch.bfloat16) else reference


@cache
def _kernels_on(device_type):
    """Return the compiled kernels if their compiler works; else the reference, and print the reason in one line."""
    try:
        if device_type == "cpu":
            from snn.kernels import cpu
            from snn.kernels.recurrent import recurrent_neuron

            kernels = CompiledKernels(cpu, recurrent_neuron)
        elif device_type == "cuda":
            from snn.kernels import cuda

            kernels = CompiledKernels(cuda, adds_bias=True)
        else:
            return reference
        _try(kernels, device_type, every=device_type == "cuda")  # compilers for CUDA differ from kernel to kernel
    except torch.OutOfMemoryError:  # it passes
        raise
    except Exception as error:  # not installed, no driver, no writable cache: compilers raise anything
        reason = " ".join(str(error).split())
        note(f"the time loops run in plain torch, which is slower: {reason}")
        return reference
    return kernels


def _try(kernels, device_type, every):
    """Run kernels on one value, so that a compiler that fails does so here: one of them, or every one both ways."""
    devices = [torch.cuda.current_device()] if device_type == "cuda" else []
    # Whatever the caller does; and a run's random numbers stay as they are.
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices):
        one = torch.ones(1, device=device_type, requires_grad=every)
        x, constants = one.view(1, 1, 1), (0.5, False, 1.0, Gaussian())
        results = [kernels.dual_exp_iir(x, None, None, one, one, one)[0]]
        if every:
            results += [
                kernels.first_order_low_pass(x, None, one)[0],
                kernels.dual_exp_filter(x, None, None, 0.5, 0.4, 1.0)[0], kernels.dropout(x, 0.5),
            ]  # fmt: skip
            for bias in ((), (one,)) if kernels.adds_bias else ((),):
                results += [
                    kernels.spiking_neuron(x, None, None, *constants, *bias)[0],
                    kernels.neuron_and_iir(x, (None, None), constants, 0.5, (None, None), (one, one, one), *bias)[0],
                ]
            torch.autograd.grad(results, one, [torch.ones_like(result) for result in results])
