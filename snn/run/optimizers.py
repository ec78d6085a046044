"""Optimizers and schedulers as a config names them; layers may ask for their own learning rates."""

import torch
from torch.optim import lr_scheduler

from snn.base.errors import UserError
from snn.base.keys import not_negative, positive
from snn.layers.synapses import coefficient_names

OPTIONS = {"lr_factor": positive, "weight_decay": not_negative}  # that a layer may ask for


def make_optimizer(config, net):
    """Return the optimizer that the config names, over the trained parameters, with all options of its section.

    Parameters with the same options form a group; with `optimizer.clip`, synapses' coefficients form groups of their
    own. Options are those that a layer asks for in its `optimizer_options`, and for coefficients
    `optimizer.coefficients_lr_factor` and `decay_coefficients`. A group keeps its `lr_factor`, its learning rate as a
    multiple of the config's.
    """
    _check_options(net)
    settings, coefficients, groups = config["optimizer"], coefficient_names(net), {}
    choice = settings["optimizer_choice"]
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            layer, _, own_name = name.rpartition(".")
            asked = getattr(net.get_submodule(layer), "optimizer_options", {}).get(own_name, {})
            options = {"lr_factor": 1} | {option: OPTIONS[option](value) for option, value in asked.items()}
            if name in coefficients:
                options["lr_factor"] *= settings["coefficients_lr_factor"]
                if not settings["decay_coefficients"]:
                    options.setdefault("weight_decay", 0)
            is_clipped_apart = settings["clip"] > 0 and name in coefficients
            groups.setdefault((is_clipped_apart, *sorted(options.items())), []).append(parameter)
    lr = settings[choice]["lr"]
    groups = [
        {"params": parameters, "lr": lr * dict(options)["lr_factor"], **dict(options)}
        for (_, *options), parameters in groups.items()
    ]
    return getattr(torch.optim, choice)(groups, fused=True, **settings[choice])


def _check_options(net):
    """Raise UserError if a layer's `optimizer_options` name what it or the optimizer does not have."""
    for name, layer in net.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        for parameter, options in getattr(layer, "optimizer_options", {}).items():
            where = f"optimizer_options of layer {name} ({type(layer).__name__})"
            if parameter not in own:
                raise UserError(f"{where}: no parameter {parameter!r}; there are {', '.join(own) or 'none'}")
            if not isinstance(options, dict) or not options.keys() <= OPTIONS.keys():
                raise UserError(f"{where}: {options!r} of {parameter}; use a dict with {' and '.join(sorted(OPTIONS))}")
            for option, check in OPTIONS.items():
                try:
                    check(options.get(option, 1))
                except ValueError as allowed:
                    raise UserError(f"{where}: {option} of {parameter} is {options[option]!r}, not {allowed}") from None


def new_moments(optimizer, group):
    """Return what the optimizer keeps for a parameter `[1]` of one of its groups after a step, a dict of tensors."""
    parameter = torch.nn.Parameter(torch.zeros(1, device=group["params"][0].device))
    parameter.grad = torch.zeros_like(parameter)
    twin = type(optimizer)([group | {"params": [parameter]}], lr=group["lr"])
    twin.step()
    return twin.state[parameter]


def learning_rate(optimizer):
    """Return the current learning rate as scheduled, without the groups' factors."""
    group = optimizer.param_groups[0]
    return group["lr"] / group.get("lr_factor", 1)


def make_scheduler(config, optimizer):
    """Return the learning rate scheduler that the config names; None for "none". CyclicLR is stepped every batch.

    All keep the ratios between the groups' learning rates.
    """
    choice = config["scheduler"]["scheduler_choice"]
    if choice == "none":
        return None
    options = dict(config["scheduler"][choice])
    if choice == "CyclicLR":
        options["cycle_momentum"] = False  # Adam has none
        for bound in ("base_lr", "max_lr"):
            options[bound] = [options[bound] * group.get("lr_factor", 1) for group in optimizer.param_groups]
    return getattr(lr_scheduler, choice)(optimizer, **options)
