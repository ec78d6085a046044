"""The base of layers over time, and what they declare about themselves."""

import math
import sys
import threading
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn.modules import module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from snn.base.errors import UserValueError
from snn.kernels import kernels_for
from snn.layers.parts import now, part_of_a_pass

TO_TENSOR = "layers over time return (y, state), which snn.Sequential passes on; pad sequences of other lengths"
PRODUCTS = nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d


def decay(tau):
    """Return what a time constant leaves of a value after a step, e^(-1/tau).

    Raises TypeError if the time constant is to be trained: the number that is returned passes no gradient.
    """
    if torch.is_tensor(tau) and tau.requires_grad:
        raise TypeError("a time constant here is a number: to train it, write a layer of your own")
    return math.exp(-1 / tau)


def takes_means(layer):
    """Whether a module normalises by the mean of the batch that it gets, as BatchNorm does in training."""
    return isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None)


class Layer(nn.Module):
    """A layer over time: `y, state = layer(x, state=None)`, x `[T, B, *features]`; None starts from zero.

    A subclass has a `forward` like that, or a `step` for one time step. It declares in its class body what
    `snn.record`, pictures and optimizers may ask for:

        output: name of its output: "spikes" of a neuron, "psp" of a synapse. Layers that output spikes are counted,
            drawn as rasters, and reported when silent.
        states: names of its state's tensors, in order, such as ("v", "reset").
        multiply_adds: of each element of its output at a step, besides matrix products; for `snn.cost`.
        optimizer_options: a dict from a parameter's name to its options: {"lr_factor": 10, "weight_decay": 0}.
            The learning rate is the config's times `lr_factor`; schedulers keep the ratio.

    A neuron that a config can choose also has a class method `from_config(hyperparameters)` (synapses: see `Synapse`).

    A plain torch.nn.Module is a layer over time too if its class sets `stateful = True`; it may set the rest as well.
    """

    stateful = True
    output = "y"
    states = ()
    multiply_adds = 0
    optimizer_options = {}
    on_kernels = False  # whether this class's `forward` hands its input to a kernel as it is: then bfloat16 may stay so

    def __init_subclass__(cls, **arguments):
        super().__init_subclass__(**arguments)
        base, own = super(cls, cls), vars(cls)
        is_ours = base.forward.__module__.startswith("snn.") and base.step is Layer.step  # which runs no step
        if "step" in own and "forward" not in own and is_ours:
            cls.forward = Layer.forward

    def forward(self, x, state=None):
        if type(self).step is Layer.step:
            raise NotImplementedError(f"{type(self).__name__} needs a forward, or a step")
        steps = []
        for of_step in self.checked(x):
            which = "later" if steps and not now.part else now.part
            with part_of_a_pass(which, now.watched):  # for what records layers in this
                y, state = unpacked(self.step(of_step, state), type(self).__name__)
            steps.append(y)
        return torch.stack(steps), state

    def step(self, x, state=None):
        """Run one time step: x `[B, *features]` -> y `[B, *]`, and the state for the next step.

        Raises ValueError if `forward` returns None as its state: it can't go on from there.
        """
        if type(self).forward is Layer.forward:  # which would call the step that called this one
            what = "a forward, or a step; that may call a base's forward(x[None]), not its step"
            raise NotImplementedError(f"{type(self).__name__} needs {what}")
        y, state = self(x[None], state)
        check_goes_on(self, state)
        return y[0], state

    def _apply(self, function, recurse=True):  # of `to`, `half` and the like
        refuse_half(function)
        return super()._apply(function, recurse)

    def checked(self, x):
        """Return the input as `forward` takes it: half precision as float32, unless a kernel takes it.

        Raises ValueError if it is not a floating-point `[T, B, *features]` with at least one step, TypeError if it is
        no tensor.
        """
        check_tensor(self, x)
        if x.dim() < 2 or not x.shape[0]:  # len(x) would be a constant to torch.export
            raise ValueError(
                f"{type(self).__name__} takes [T, B, *features] with at least one step, got {list(x.shape)}"
            )
        if not x.is_floating_point():
            raise ValueError(f"{type(self).__name__} takes floating-point numbers, got {x.dtype}: pass x.float()")
        return as_taken(x, self)


def check_tensor(layer, x):
    """Raise TypeError if an input is no tensor: (y, state) in torch.nn.Sequential, a PackedSequence, an array."""
    if not torch.is_tensor(x):
        name = type(layer).__name__
        raise TypeError(f"{name} takes a tensor [T, B, *features], not {type(x).__name__}: {TO_TENSOR}")


def unpacked(result, name):
    """Return the (y, state) that a layer over time returned; raise ValueError if it is something else."""
    if not (isinstance(result, (tuple, list)) and len(result) == 2):
        raise ValueError(
            f"{name} is a layer over time: it must return (y, state) to unpack, not {type(result).__name__}"
        )
    return result


def check_goes_on(layer, state, name=None):
    """Raise ValueError if a layer over time or a network, or a layer in a `Sequential`, returned None as its state."""
    if state is None:
        raise UserValueError(
            f"{name or type(layer).__name__} returns no state to go on from, so it needs the whole sequence at once (a "
            "layer that needs no state returns (), not None)"
        )
    if hasattr(layer, "check_goes_on"):
        layer.check_goes_on(state)


def refuse_half(function):
    """Raise TypeError if a function of tensors, such as that of `half`, makes half precision of float32."""
    if function(torch.empty(1, dtype=torch.float32)).dtype in (torch.float16, torch.bfloat16):
        raise TypeError(
            "a network's filters and neurons need float32 or float64: keep it so, and run it under torch.autocast "
            "(in a config, precision: bf16) to have products in half precision"
        )


def as_taken(x, layer):
    """Return a layer's input: half precision as float32, unless it is bfloat16 and the layer's kernel takes that."""
    if x.dtype not in (torch.float16, torch.bfloat16):
        return x
    on_kernels = vars(type(layer)).get("on_kernels")  # not a base's: a subclass may compute before it calls that
    return x if on_kernels and x.dtype == torch.bfloat16 and kernels_for(x).takes_bf16 else x.float()


def is_watched(layer):
    """Whether hooks see what a layer takes and returns, or its `forward` is replaced, or compiled by itself.

    While a backward runs a part of a sequence again, it is whether they did when it ran first.
    """
    if now.part == "again":
        return layer in now.watched
    hooks = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    everywhere = (getattr(module, f"_global{kind}", None) for kind in hooks)
    replaced = "forward" in vars(layer) or layer._compiled_call_impl is not None
    return replaced or any(getattr(layer, kind) for kind in hooks) or any(everywhere)


@contextmanager
def hooked(layers, hook):
    """Call `hook(name, layer, arguments, output)` after each call of these layers, a dict by name, in the block.

    `arguments` are also those that were named. It is not called for what a backward runs again, nor for what another
    thread runs. In the block, what torch.compile has compiled runs as it was written: compiled code would keep to the
    hooks it has seen.
    """

    thread = threading.get_ident()

    def seen_once(name, layer, arguments, named, output):
        if now.part != "again" and threading.get_ident() == thread:
            hook(name, layer, (*arguments, *named.values()), output)

    handles = [
        layer.register_forward_hook(partial(seen_once, name), with_kwargs=True) for name, layer in layers.items()
    ]
    try:
        # Nothing is compiled before this module is imported, which takes a second.
        with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext():
            yield
    finally:
        for handle in handles:
            handle.remove()


def is_stateful(layer):
    """Whether a module takes and returns a state."""
    return getattr(layer, "stateful", False) is True


def output_name(layer):
    """Return the name of a layer's output; empty for a module without state and for a container of layers."""
    return getattr(type(layer), "output", "y") if is_stateful(layer) else ""


def spiking_layers(net):
    """Return a network's layers of neurons by name, in order, without those within one."""
    found = {}
    for name, layer in net.named_modules():
        within = tuple(f"{other}." if other else "" for other in found)
        if output_name(layer) == "spikes" and not name.startswith(within):
            found[name] = layer
    return found


def hidden_layers(net):
    """Return those of a network's `spiking_layers` that are hidden: all but the last, which is its output.

    All of them if weights are behind the last one in a torch.nn.Sequential: then the output is of a readout.
    """
    neurons = spiking_layers(net)
    last = next(reversed(neurons), "")
    return {name: layer for name, layer in neurons.items() if name != last or _is_read_out(net, name)}


def _is_read_out(net, name):
    """Whether weights are behind a layer of this name, in the Sequential that it is in or in one around that."""
    while name:
        name, _, own = name.rpartition(".")
        around = net.get_submodule(name)
        names = list(around._modules) if isinstance(around, nn.Sequential) else [own]
        behind = (around._modules[other] for other in names[names.index(own) + 1 :])
        if any(isinstance(module, PRODUCTS) for layer in behind for module in layer.modules()):
            return True
    return False


def state_names(layer):
    """Return the names of a layer's states; empty if it does not declare them."""
    return tuple(getattr(type(layer), "states", ())) if is_stateful(layer) else ()


@torch.no_grad()
def set_value(layer, name, value):
    """Give a layer's tensor a value, where it is not masked, also if torch.nn.utils has pruned or parametrized it.

    Returns whether that was possible: a parametrization needs a right_inverse.
    """
    if parametrize.is_parametrized(layer, name):
        steps = layer.parametrizations[name]
        if not all(hasattr(step, "right_inverse") for step in steps):
            return False
        for step in reversed(steps):
            value = step.right_inverse(value)
        for original, new in zip(steps.parameters(recurse=False), [value] if torch.is_tensor(value) else value):
            original.copy_(new)
    elif hasattr(layer, f"{name}_mask"):
        original = getattr(layer, f"{name}_orig")
        original.copy_(torch.where(getattr(layer, f"{name}_mask") != 0, value, original))
    elif name in layer._parameters:
        getattr(layer, name).copy_(value)
    else:  # a hook computes it
        return False
    return True
