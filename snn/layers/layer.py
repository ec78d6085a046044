"""What every layer over time has in common, and what it says of itself."""

import torch
from torch import nn


class Layer(nn.Module):
    """A layer over time: `y, state = layer(x, state=None)`, x `[T, B, *features]`; None starts from zero.

    A subclass says in its class body what others may ask, such as `snn.record`, pictures, optimizers:

        output: name of its output: "spikes" of a neuron, "psp" of a synapse. Layers that give spikes are counted,
            drawn as rasters, and reported when silent.
        states: names of its state's tensors, in their order, such as ("v", "reset").
        optimizer_options: a dict from a parameter's name to options of its own: {"lr_factor": 10, "weight_decay": 0}.
            The learning rate is the config's times `lr_factor`; schedulers keep the ratio.

    With `from_config(hyperparameters)`, a class method, a config can choose a neuron (of a synapse: see `Synapse`).

    A plain torch.nn.Module is a layer over time too if its class says `stateful = True`, and may say the rest as well.
    """

    stateful = True
    output = "y"
    states = ()
    optimizer_options = {}

    def checked(self, x):
        """The input as the kernels take it: half precision as float32.

        Raises ValueError if it is no floating-point `[T, B, *features]` with at least one step.
        """
        if x.dim() < 2 or not len(x):
            raise ValueError(
                f"{type(self).__name__} takes [T, B, *features] with at least one step, got {list(x.shape)}"
            )
        if x.dtype in (torch.float16, torch.bfloat16):
            return x.float()
        if not x.is_floating_point():
            raise ValueError(f"{type(self).__name__} takes floating-point numbers, got {x.dtype}: pass x.float()")
        return x


def is_stateful(layer):
    """Whether a module takes and returns a state."""
    return getattr(layer, "stateful", False) is True


def output_name(layer):
    """What a layer's output is called; empty for a module without state and for a container of layers."""
    return getattr(type(layer), "output", "y") if is_stateful(layer) else ""


def state_names(layer):
    """What a layer's states are called; empty where it does not say."""
    return tuple(getattr(type(layer), "states", ())) if is_stateful(layer) else ()
