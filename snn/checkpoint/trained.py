"""From a checkpoint to its network, in one's own code."""

import importlib

from snn import config
from snn.base.errors import UserError
from snn.checkpoint import published
from snn.checkpoint.store import load, load_model


def load_trained(path, network=None):
    """The trained network of a checkpoint, on the CPU and ready to evaluate: `net = snn.load("weights/snn_mlp_1.pt")`.

    Args:
        path: of a checkpoint that a run left, or of weights that ship.
        network: from a config to the network; None takes that of the experiment's script, which has to be importable.
    Raises UserError (`snn.UserError`) if it is no such checkpoint, or of another network.
    """
    checkpoint = load(path)
    if published.is_published(checkpoint):
        raise UserError(
            f"checkpoint {path} is of the public code: python -m snn.checkpoint convert makes it one of ours"
        )
    settings = config.completed(checkpoint["config"])
    net = (network or network_of(settings["experiment_name"].removesuffix("-demo"), path))(settings)
    load_model(net, checkpoint, path)
    return net.eval()


def network_of(experiment, path):
    """The function of an experiment's script that makes its network. Raises UserError if there is none."""
    try:
        return importlib.import_module(experiment).network
    except (ImportError, AttributeError):
        raise UserError(
            f"checkpoint {path} is of {experiment}, and there is no {experiment}.py with a network(config) to import: "
            "run where it is, or pass its network function"
        ) from None
