"""Transfer: a network starts from the layers of a checkpoint that fit, and some of its layers are not trained."""

from pathlib import Path

from snn.base.errors import UserError
from snn.base.output import note
from snn.checkpoint.store import load, model_of
from snn.checkpoint.tensors import check_tensors, same_shapes
from snn.checkpoint.trained import found
from snn.config import get
from snn.look.labels import layer_labels


def start_from(net, path, config=None):
    """Give a network's layers the values of a checkpoint's layers that fit, and say which did.

    Those fit whose tensors have the same names and shapes; other layers stay as they are.

    Args:
        path: of a checkpoint of any experiment, or the name of weights that ship, as `snn.load` takes it.
        config: of the run that starts so, with what it measured of its data, to say whom of its test set the
            checkpoint's run has learned from.
    Raises UserError if no layer fits, and as `load` and `check_tensors` do.
    """
    path = found(path)
    checkpoint = load(path)
    own, theirs, labels = _by_layer(net.state_dict()), _by_layer(model_of(checkpoint, net, path)), layer_labels(net)
    fitting = [layer for layer in own if same_shapes(theirs.get(layer, {}), own[layer])]
    if not fitting:
        raise UserError(f"init_from: no layer of {path} fits one here by name and shape: name another checkpoint")
    for layer in fitting:
        check_tensors(theirs[layer], own[layer], path)
        net.load_state_dict(theirs[layer], strict=False)
    new = ", ".join(labels.get(layer, layer) for layer in own if layer not in fitting)  # a shared one has one label
    started = ", ".join(labels.get(layer, layer) for layer in fitting)
    note(f"init_from: {started} start from {path}" + (f"; anew: {new}" if new else ""))
    if seen := _seen_of_test(config or {}, checkpoint.get("config", {})):
        note(f"init_from: {path} may have learned from {', '.join(seen)}, on whom this run is tested")


def _seen_of_test(config, before):
    """Return the groups that a run leaves out for its test, and an earlier one that left out others did not."""
    tested, left_out = (of.get("measured", {}).get("left_out") for of in (config, before))
    same = all(get(config, key) == get(before, key) for key in ("dataset.name", "dataset.groups"))
    return [group for group in tested if group not in left_out] if tested and left_out and same else []


def check_kept(path, replaced):
    """Raise UserError if what a network starts from is in a folder of checkpoints that its run replaces."""
    if path and found(path).resolve().parent in map(Path.resolve, replaced):
        raise UserError(f"init_from: {path} is of a run that this one replaces: copy it to another folder first")


def _by_layer(model):
    """Return a state dict's tensors by layer, each layer's a dict by their names in the whole."""
    layers = {}
    for name, value in model.items():
        layers.setdefault(name.rpartition(".")[0], {})[name] = value
    return layers


def freeze(net, names):
    """Let layers of a network, by their names or by what pictures call them, not be trained; return them.

    Raises UserError for one that the network lacks, or that has no parameters, and if no parameter is left to train.
    """
    labels = layer_labels(net)
    there = {name: layer for name, layer in net.named_modules() if name and any(True for _ in layer.parameters())}
    known = {labels[name]: layer for name, layer in there.items()} | there
    for name in names:
        if name not in known:
            listed = ", ".join(f"{name} ({labels[name]})" for name in there)
            raise UserError(f"freeze: no layer {name!r:.50} with parameters; there are {listed}")
        known[name].requires_grad_(False)
    if names and not any(parameter.requires_grad for parameter in net.parameters()):
        raise UserError(f"freeze: nothing is left to train without {', '.join(names)}: leave out one")
    return [known[name] for name in names]
