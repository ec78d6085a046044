"""What layers compute at every step, for looking at: `with snn.record(net) as trace: net(x)`."""

from contextlib import contextmanager
from types import SimpleNamespace

import torch

from snn.kernels import kernels_for
from snn.layers.neurons import SpikingNeuron
from snn.layers.synapses import DualExpFilter, DualExpIIR, FirstOrderLowPass

QUANTITIES = {
    "psp": (DualExpIIR, FirstOrderLowPass, DualExpFilter),
    "spikes": (SpikingNeuron,),
    "v": (SpikingNeuron,),
    "reset": (SpikingNeuron,),
}


@contextmanager
def record(net, layers=None, what=("spikes", "v", "reset", "psp"), steps=slice(None), samples=slice(None)):
    """Keep what the layers of a network compute in the last forward pass within the `with` block.

        with snn.record(net, layers=["2"], what=["v"], samples=slice(4)) as trace:
            net(x)
        trace.v["2"]  # [T, 4, *features]

    Args:
        net: any module; its layers are named as in `net.named_modules()`: "0", "1", ... in a Sequential.
        layers: names of synapse, filter and neuron layers; None records all.
        what: of "spikes", "v" (the potential that is compared with the threshold), "reset" (r[t], after the step's
            spike) for neurons, and "psp" for synapses and filters.
        steps, samples: slices of the time steps and of the batch; only these are kept, which bounds the memory.
    Gives a trace with an attribute for each of `what`: a dict from a layer's name to `[T, B, *features]`, detached.
    Raises ValueError for an unknown layer or quantity, with the names that there are.
    """
    unknown = [quantity for quantity in what if quantity not in QUANTITIES]
    if unknown:
        raise ValueError(f"record: unknown quantity {unknown[0]!r}; there are {', '.join(QUANTITIES)}")
    kinds = tuple({kind for quantity in what for kind in QUANTITIES[quantity]})
    there = {name: layer for name, layer in net.named_modules() if isinstance(layer, kinds)}
    for name in there if layers is None else layers:
        if name not in there:
            of_types = ", ".join(f"{known} ({type(layer).__name__})" for known, layer in there.items())
            raise ValueError(f"record: no layer {name!r} with {' or '.join(what)}; there are {of_types or 'none'}")
    trace = SimpleNamespace(**{quantity: {} for quantity in what})

    @torch.no_grad()
    def keep(name, layer, arguments, output):
        x, state = (*arguments, None)[:2]
        y = output[0].detach()[:, samples]
        if isinstance(layer, SpikingNeuron):
            v, r = (None if s is None else _of_samples(s, x, samples) for s in state or (None, None))
            values = {"spikes": y, **_potential_and_reset(layer, x.detach()[:, samples], y, v, r, what)}
        else:
            values = {"psp": y}
        for quantity in what:
            if quantity in values:
                getattr(trace, quantity)[name] = values[quantity][steps].clone()

    handles = [
        there[name].register_forward_hook(lambda *call, name=name: keep(name, *call))
        for name in (there if layers is None else layers)
    ]
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()


def _of_samples(state, x, samples):
    """A state that may broadcast, for some of the samples of `x`."""
    return state.detach().expand(x.shape[1:])[samples]


def _potential_and_reset(neuron, current, spikes, v, r, what):
    """The potential and the reset at every step, from the formulas of SpikingNeuron, whose kernels give the last only.

    Shape: current, spikes `[T, B, *features]`, initial v, r `[B, *features]` or None -> dict of the same as current.
    """
    if not {"v", "reset"} & set(what):
        return {}
    kernels = kernels_for(current)
    decay = current.new_full(current.shape[2:], neuron.decay)
    reset = kernels.first_order_low_pass(spikes, r, decay)[0]
    before = torch.cat([(torch.zeros_like(reset[0]) if r is None else r)[None], reset[:-1]])
    potential = current - before
    if neuron.membrane_filter:
        potential = kernels.first_order_low_pass(potential, v, decay)[0]
    return {"v": potential, "reset": reset}
