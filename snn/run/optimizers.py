"""Optimizers and schedulers as a config names them; layers may ask for their own learning rates."""

import torch
from torch.optim import lr_scheduler

from snn.layers.synapses import coefficient_names


def make_optimizer(config, net):
    """Return the optimizer that the config names, over the trained parameters.

    Parameters with the same options form a group. Options are those that a layer asks for in its `optimizer_options`,
    and `optimizer.coefficients_lr_factor` for synapses' coefficients. A group keeps its `lr_factor`, its learning rate
    as a multiple of the config's.
    """
    settings, coefficients, groups = config["optimizer"], coefficient_names(net), {}
    choice = settings["optimizer_choice"]
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            layer, _, own_name = name.rpartition(".")
            asked = getattr(net.get_submodule(layer), "optimizer_options", {}).get(own_name, {})
            options = {"lr_factor": 1} | asked
            if name in coefficients:
                options["lr_factor"] *= settings["coefficients_lr_factor"]
            groups.setdefault(tuple(sorted(options.items())), []).append(parameter)
    lr = settings[choice]["lr"]
    groups = [
        {"params": parameters, "lr": lr * dict(options)["lr_factor"], **dict(options)}
        for options, parameters in groups.items()
    ]
    return getattr(torch.optim, choice)(groups, lr=lr, fused=True)


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
