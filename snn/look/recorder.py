"""Record what layers compute at every step: `with snn.record(net) as trace: net(x)`."""

from contextlib import contextmanager, suppress
from types import SimpleNamespace

import torch

from snn.layers.layer import hooked, output_name, state_names
from snn.layers.parts import is_later_part, part_of_a_pass
from snn.layers.state import map_tensors

TOLERANCE = 1e-3  # of an output that is recomputed step by step
DIFFERING = 0.01  # share of its values that may exceed it: a potential at the threshold may fall either way


@contextmanager
def record(net, layers=None, what=None, steps=slice(None), samples=slice(None)):
    """Record what the layers of a network compute in the last forward pass within the `with` block.

        with snn.record(net, layers=["2"], what=["v"], samples=slice(4)) as trace:
            net(x)
        trace.v["2"]  # [T, 4, *features]

    Args:
        net: any module; its layers are named as in `net.named_modules()`: "0", "1", ... in a Sequential.
        layers: names of layers over time (`snn.Layer`); None records all.
        what: names of outputs and states, as the layers declare them: "spikes", "v" (the potential that is compared
            with the threshold) and "reset" (r[t], after the step's spike) of neurons, "psp" of synapses and filters.
            None records all outputs, and the states of layers that spike.
        steps, samples: slices of the time steps and of the batch; only these are kept, to limit the memory.
    Yields a trace with an attribute for each of `what`: a dict from a layer's name to `[T, B, *features]`, detached.
    States at every step come from running the layer again, one step at a time, on the chosen samples.
    In the block, what torch.compile has compiled runs as it was written.
    Raises ValueError for an unknown layer or quantity, listing those that exist, for a network without layers over
    time, for a layer whose output differs when it runs one step at a time, and for `steps` counted from the end where
    there is none to see: in chunks, and in `snn.Recurrent`.
    """
    there = {name: layer for name, layer in net.named_modules() if output_name(layer)}
    if not there:
        raise ValueError(f"record: {type(net).__name__} has no layer over time; a traced or exported network has none")
    known = dict.fromkeys(quantity for layer in there.values() for quantity in _quantities(layer))
    if what is None:
        what = dict.fromkeys(output_name(layer) for layer in there.values())
        spiking = [layer for layer in there.values() if output_name(layer) == "spikes"]
        what = [*what, *dict.fromkeys(state for layer in spiking for state in state_names(layer) if state not in what)]
    unknown = [quantity for quantity in what if quantity not in known]
    if unknown:
        raise ValueError(f"record: unknown quantity {unknown[0]!r}; there are {', '.join(known) or 'none'}")
    there = {name: layer for name, layer in there.items() if set(_quantities(layer)) & set(what)}
    for name in there if layers is None else layers:
        if name not in there:
            of_types = ", ".join(f"{known} ({type(layer).__name__})" for known, layer in there.items())
            raise ValueError(f"record: no layer {name!r} with {' or '.join(what)}; there are {of_types or 'none'}")
    trace, ran = SimpleNamespace(**{quantity: {} for quantity in what}), {}

    @torch.no_grad()
    def keep(name, layer, arguments, output):
        x, state = (*arguments, None)[:2]
        y = output[0].detach()[:, samples]
        values = {output_name(layer): y}
        if set(state_names(layer)) & set(what) - values.keys():
            state = map_tensors(lambda s: _of_samples(s.detach(), x, samples), state)
            with part_of_a_pass("again"):  # layers within it are not recorded a second time
                values = _states(name, layer, x.detach()[:, samples], state, y) | values
        first = ran.get(name, 0) if is_later_part() else 0
        ran[name] = first + len(y)
        for quantity in what:
            if quantity in values:
                value = values[quantity][_from(first, steps) if first else steps]
                value = value.float() if value.dtype == torch.bfloat16 else value.clone()
                of_quantity = getattr(trace, quantity)
                of_quantity[name] = torch.cat([of_quantity[name], value]) if first else value

    with hooked({name: there[name] for name in (there if layers is None else layers)}, keep):
        yield trace


def _from(first, steps):
    """Return the slice that takes from the steps `first`, ... of a sequence those that `steps` takes of all of it."""
    start, stop, step = steps.start or 0, steps.stop, steps.step or 1
    if min(start, stop or 0) < 0:
        where = "in chunks, and within a layer that runs step by step (snn.Recurrent),"
        raise ValueError(f"record: {where} steps can't be counted from the end")
    start = start - first if start > first else (start - first) % step
    return slice(start, None if stop is None else max(stop - first, 0), step)


def _quantities(layer):
    return output_name(layer), *state_names(layer)


def _of_samples(state, x, samples):
    """Return the state of some samples of `x`; the state may broadcast over them."""
    with suppress(RuntimeError):  # of another shape than the input
        state = state.expand(x.shape[1:])
    return state[samples]


def _states(name, layer, x, state, y):
    """Return every state of a layer after each step, by name, each `[T, B, *features]`.

    Args:
        x, y: its input and its output, `[T, B, *features]`.
        state: that it started from.
    """
    outputs, states = [], {state_name: [] for state_name in state_names(layer)}
    for x_t in x.split(1):
        y_t, state = layer.forward(x_t, state)
        outputs.append(y_t)
        for of_name, value in zip(states.values(), [state] if torch.is_tensor(state) else state):
            of_name.append(value)
    again = torch.cat(outputs)
    if ((again - y).abs() > TOLERANCE * (1 + y.abs())).double().mean() > DIFFERING:
        raise ValueError(
            f"record: layer {name} ({type(layer).__name__}) returns another output step by step than all at once: "
            "its state must hold everything that later steps depend on"
        )
    return {state_name: torch.stack(values) for state_name, values in states.items()}
