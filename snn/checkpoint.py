"""Checkpoints: plain dicts of tensors, numbers and texts that load with nothing else at hand.

Keys: config (the whole of it), epoch (from 0), model, optimizer, scheduler, random (states of the generators),
preserved (the carried state), history (a dict for each epoch, as in metrics.csv), run_folder.
"""

from pathlib import Path

import torch

from snn.errors import UserError
from snn.files import written_beside


def save(path, checkpoint):
    """Write a checkpoint; the one before stays until the new one is whole."""
    with written_beside(path) as file:
        torch.save(checkpoint, file)


def load(path, experiment=None):
    """Read a checkpoint onto the CPU.

    Args:
        experiment: name of the experiment it has to be of; None takes any.
    Raises UserError if it is not there, cut short, no checkpoint, or of another experiment.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"no checkpoint at {path}: train first (--train), or name one with --checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises what the bytes happen to provoke
        raise UserError(f"checkpoint {path} is no checkpoint, or cut short: name another with --checkpoint") from None
    if not isinstance(checkpoint, dict) or not {"config", "epoch", "model"} <= checkpoint.keys():
        raise UserError(f"checkpoint {path} has no config, epoch and model: name another with --checkpoint")
    name = checkpoint["config"].get("experiment_name")
    if experiment and name != experiment:
        raise UserError(f"checkpoint {path} is of {name}, not of {experiment}: name another with --checkpoint")
    return checkpoint


def newest(folder):
    """The path of the newest checkpoint in an experiment's folder."""
    last, best = Path(folder) / "last.pt", Path(folder) / "best.pt"
    return best if best.exists() and not last.exists() else last


def load_model(net, model, path):
    """Put the weights `model`, read from `path`, into a network.

    Raises UserError that names the first tensor that is missing, unknown or of another shape.
    """
    own = net.state_dict()
    for name in own.keys() | model.keys():
        if name not in model:
            problem = f"has no {name}"
        elif name not in own:
            problem = f"has {name}, which the network has not"
        elif own[name].shape != model[name].shape:
            problem = f"has {name} of shape {list(model[name].shape)}, the network {list(own[name].shape)}"
        else:
            continue
        raise UserError(f"checkpoint {path} {problem}: it is of another network; set the config to the one it is of")
    net.load_state_dict(model)
