"""Load a checkpoint's network in your own code."""

import importlib

from snn.base.errors import UserError
from snn.checkpoint import published
from snn.checkpoint.store import load, load_model


def load_trained(path, network=None):
    """Return a checkpoint's trained network, on the CPU, in eval mode: `net = snn.load("weights/snn_mlp_1.pt")`.

    Args:
        path: of a checkpoint that a run wrote, or of weights that ship.
        network: from a config to the network; None takes that of the experiment's script, which must be importable.
    Raises UserError (`snn.UserError`) if it is not such a checkpoint, or is of another network.
    """
    checkpoint = load(path)
    if published.is_published(checkpoint):
        raise UserError(f"checkpoint {path} is of the public code: convert it with python -m snn.checkpoint convert")
    settings = checkpoint["config"]
    network = network or network_of(settings["experiment_name"].removesuffix("-demo"), path)
    return trained_network(checkpoint, settings, path, network).eval()


def trained_network(checkpoint, settings, path, network):
    """Return the network that a config describes, with the weights of a checkpoint that was read from `path`.

    Raises UserError if the network can't be made, or is another one.
    """
    try:
        net = network(settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"checkpoint {path}: the network of its config can't be made: {error}") from None
    load_model(net, checkpoint, path)
    return net


def network_of(experiment, path):
    """Return the function of an experiment's script that makes its network; raise UserError if there is none."""
    try:
        return importlib.import_module(experiment).network
    except (ImportError, AttributeError):
        raise UserError(
            f"checkpoint {path} is of {experiment}, and there is no {experiment}.py with a network(config) to import: "
            "run in its folder, or pass its network function"
        ) from None
