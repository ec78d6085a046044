"""The loops over time, behind one dispatch.

A set of kernels is a module with these four functions. `x`, `current` and every result that is a sequence are
`[T, B, *features]`; states are `[B, *features]`; coefficients are `[*features]`; decays and gain are numbers.

    dual_exp_iir(x, psp_1, psp_2, a1, a2, b1)                -> psp, psp[T], psp[T-1]
    first_order_low_pass(x, psp_1, a1)                       -> psp, psp[T]
    spiking_neuron(current, v, r, decay, membrane_filter)    -> spikes, v[T], r[T]
    dual_exp_filter(x, m, s, decay_m, decay_s, gain)         -> y, m[T], s[T]

`reference` is the definition, in plain torch. Faster kernels stand beside it and are chosen here, by the tensor they
are to work on; no layer knows which ones it runs.
"""

from snn.kernels import reference


def kernels_for(x):
    """The module whose kernels work on tensor `x`. There is one so far: the reference runs on every device."""
    return reference
