"""Checkpoints of the paper's public code: map its names to those of our networks, and back.

Such a file is a dict {epoch, snn_state_dict, optimizer_state_dict, loss}; the released ones are in a .zip each. A
network's layers are numbered in blocks, each of which begins with a synapse layer: axon1, conv1, axon2, ..., with pools
counted too. The state also holds constants, which here come from the config; they are checked.
"""

import math

import torch
from torch import nn

from snn.base.errors import UserError
from snn.checkpoint.tensors import check_tensors
from snn.kernels.surrogates import Gaussian
from snn.layers.layer import is_stateful
from snn.layers.neurons import SpikingNeuron
from snn.layers.output_filter import DualExpFilter
from snn.layers.synapses import DualExpIIR, FirstOrderLowPass, Synapse

KEYS = ("epoch", "snn_state_dict", "optimizer_state_dict", "loss")
CELLS = {DualExpIIR: "dual_exp_iir_cell", FirstOrderLowPass: "first_order_low_pass_cell"}
COEFFICIENTS = {"a1": "alpha_1", "a2": "alpha_2", "b1": "beta_1"}
TOLERANCE = 1e-5  # of constants, relative


def is_published(checkpoint):
    """Whether an object from torch.load is such a checkpoint."""
    return isinstance(checkpoint, dict) and "snn_state_dict" in checkpoint


def to_model(checkpoint, net, path):
    """Return the checkpoint's weights and coefficients under their names in `net`.

    Raises UserError as `check_tensors` does, and for a constant that differs.
    """
    state = {name.removeprefix("module."): value for name, value in checkpoint["snn_state_dict"].items()}
    names, constants = _names_and_constants(net)
    constants = {name: of for name, of in constants.items() if name in state}  # it did not always save all of them
    own = {name: net.state_dict()[mine] for mine, name in names.items()}
    check_tensors(state, own | {name: torch.empty(shape) for name, (_, _, shape) in constants.items()}, path)
    for name, (value, key, _) in constants.items():
        found = state[name].double()
        furthest = found.flatten()[(found - value).abs().argmax()].item()
        if abs(furthest - value) > TOLERANCE * abs(value):
            raise UserError(f"checkpoint {path}: {name} is {furthest:.6g}, but {value:.6g} here: set {key} to match it")
    return {mine: state[name] for mine, name in names.items()}


def from_checkpoint(checkpoint, net):
    """Return our checkpoint in the public code's format, without the optimizer's state."""
    names, constants = _names_and_constants(net)
    state = {name: checkpoint["model"][mine] for mine, name in names.items()}
    state |= {name: torch.full(shape, value) for name, (value, _, shape) in constants.items()}
    history = checkpoint.get("history") or [{}]
    loss = torch.tensor(history[-1].get("train_loss", math.nan))
    return dict(zip(KEYS, (checkpoint["epoch"], state, {}, loss)))


def _names_and_constants(net):
    """Return ({our name: theirs} of trained tensors, {their name: (value, config key it comes from, shape)}).

    Layers are matched by their exact class: a subclass computes something else. Raises UserError for a layer that is
    unknown, or has something that the public code has no name for.
    """
    names, constants, block, of_product = {}, {}, 0, None
    dense = "dense" if type(net[-1]) is DualExpFilter else "snn"  # the associative memory's layers are dense1, ...
    for place, (layer, shape) in enumerate(zip(net, _output_shapes(net))):
        kind = type(layer)
        if kind in CELLS and getattr(layer, "gain", None) is None:
            block += 1
            for mine, _ in layer.named_parameters():
                names[f"{place}.{mine}"] = f"axon{block}.{CELLS[kind]}.{COEFFICIENTS[mine]}"
            if kind is DualExpIIR:
                *_, gain = DualExpFilter(layer.tau_m, layer.tau_s).constants
                constants[f"axon{block}.{CELLS[kind]}.v_0"] = gain, "hyperparameters.tau_m and tau_s", ()
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            of_product = f"conv{block}.conv2d_cell" if isinstance(layer, nn.Conv2d) else f"{dense}{block}.neuron_cell"
            weight = "conv" if isinstance(layer, nn.Conv2d) else "weight"
            for mine, _ in layer.named_parameters():
                names[f"{place}.{mine}"] = f"{of_product}.{weight}.{mine}"
        elif kind is SpikingNeuron and type(layer.surrogate) is Gaussian and layer.threshold == 1:
            sigma = layer.surrogate.sigma
            constants[f"{of_product}.sigma"] = sigma, "hyperparameters.surrogate_arguments.sigma", ()
            constants[f"{of_product}.reset_v"] = 1.0, "nothing, it is fixed", shape
            for name in ("reset_decay", "decay_v"):
                constants[f"{of_product}.{name}"] = layer.decay, "hyperparameters.tau_m", shape
        elif kind is DualExpFilter:
            key = "hyperparameters.filter_tau_m and filter_tau_s"
            *decays, gain = layer.constants
            for name, value in zip(("v0", "decay_m", "decay_s"), (gain, *decays)):
                constants[f"output_filter.filter_{name}"] = value, key, ()
        elif is_stateful(layer) or layer.state_dict():
            raise _unknown(place, layer)
    return names, constants


@torch.no_grad()
def _output_shapes(net):
    """Return the shape `[*features]` of each layer's output."""
    if not isinstance(net[0], Synapse):
        raise _unknown(0, net[0])
    x, shapes = torch.zeros(1, 1, *net[0].shape, device=next(net.parameters()).device), []
    for layer in net.eval():
        x = layer(x)[0] if is_stateful(layer) else layer(x.flatten(0, 1)).unflatten(0, (1, 1))
        shapes.append(x.shape[2:])
    return shapes


def _unknown(place, layer):
    return UserError(f"layer {place}, {layer}, is unknown to the public code: its checkpoints can't hold it")
