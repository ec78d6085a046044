"""Load a checkpoint's network in your own code."""

from pathlib import Path

import torch

from snn import config, experiments
from snn.base.drawn import drawn_apart
from snn.base.errors import UserError
from snn.base.files import shipped, user_path
from snn.checkpoint import published
from snn.checkpoint.store import load, load_model
from snn.checkpoint.tensors import check_tensors
from snn.data import datasets


def load_trained(path, network=None):
    """Return a checkpoint's trained network, on the CPU, in eval mode: `net = snn.load("snn_mlp_1")`.

    `net.config` is the config that it was trained with, and `net.config["measured"]` what its input and its answers
    depend on besides: of a time series the classes' names and the scaling, of permuted pixels their order.

    Args:
        path: of a checkpoint that a run wrote, or weights that ship, from any folder: `snn_mlp_1`,
            `weights/snn_mlp_1.pt`.
        network: from a config to a new network; None takes that of the checkpoint's experiment, if it ships.
    Raises UserError (`snn.UserError`) if it is not such a checkpoint, or is of another network.
    """
    path = found(path)
    checkpoint = load(path)
    if published.is_published(checkpoint):
        raise UserError(f"checkpoint {path} is of the public code: convert it with python -m snn.checkpoint convert")
    settings = checkpoint["config"]
    network = network or network_of(settings["experiment_name"].removesuffix("-demo"), path)
    return trained_network(checkpoint, settings, path, network).eval()


def trained_network(checkpoint, settings, path, network):
    """Return the network that a config describes, as `net.config`, with the weights of a checkpoint read from `path`.

    Raises UserError if the network can't be made, or is another one.
    """
    settings = datasets.measured(settings)  # of a checkpoint from before it held that
    try:
        settings = config.check(settings, known_only=False)  # what was measured may be another dataset's
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from None
    try:
        with drawn_apart(torch.device("cpu")):
            like = None if published.is_published(checkpoint) else _without_memory(network, settings)
            if like is not None:  # its sizes may be another network's, or a broken file's
                check_tensors(checkpoint["model"], like.state_dict(), path)
        with drawn_apart(torch.device("cpu"), settings["pytorch_seed"]):  # what a checkpoint lacks is as in training
            net = network(settings)
    except (TypeError, ValueError, LookupError, RuntimeError, MemoryError, ArithmeticError) as error:
        raise UserError(f"checkpoint {path}: the network of its config can't be made: {error}") from None
    load_model(net, checkpoint, path)
    net.config = settings
    return net


def _without_memory(network, settings):
    """Return a network that has shapes alone; None if it can't be made so, such as one that looks at its values."""
    try:
        with torch.device("meta"):
            return network(settings)
    except Exception:
        return None


def network_of(experiment, path):
    """Return the function that makes an experiment's network; raise UserError if it is none of those that ship."""
    script = experiments.find(experiment)
    if script is None:
        raise UserError(
            f"checkpoint {path} is of {experiment!r:.100}, which is not an experiment that ships: load it with its "
            "network function, snn.load(path, network=...)"
        )
    return script.network


def found(path):
    """Return the path of a checkpoint, or of weights that ship under this name. Raises UserError if there is none."""
    path = user_path(path)
    weights = sorted(shipped("weights").glob("*.pt"))
    if not path.is_file():
        path = next((file for file in weights if path in (Path(file.stem), Path("weights", file.name))), path)
    if not path.exists():
        names = ", ".join(file.stem for file in weights)
        raise UserError(f"no checkpoint at {path}: pass the path of one, or the name of weights that ship: {names}")
    return path
