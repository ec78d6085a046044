"""Checkpoints: plain dicts of tensors, numbers and strings that load without any other file or class.

Keys: config (all of it), epoch (the last complete one, from 0; -1 before that), model; and to resume a run: version,
optimizer, scheduler, device (its type), random (states of the generators) and preserved (the carried state), both a
list with one entry for each rank, history (a dict for each epoch, as in metrics.csv), best_model, run_folder, data (a
fingerprint of each split), running (what the unfinished epoch has counted).
"""

import hashlib
import io
import pickle
import warnings
import zipfile
from pathlib import Path

import torch

from snn import config, experiments
from snn.base.errors import UserError
from snn.base.files import check_size, checked_entry, read_bytes, reading, user_path, written_beside
from snn.base.keys import plain
from snn.checkpoint import published
from snn.checkpoint.tensors import check_tensors

VERSION = 2  # of the keys needed to resume a run
TO_RESUME = {
    "optimizer", "scheduler", "device", "random", "preserved", "history", "best_model", "run_folder", "running",
}  # fmt: skip


def save(path, checkpoint, keep=None):
    """Write a checkpoint; the previous one stays until the new one is complete, then moves to `keep` if given."""
    content = io.BytesIO()  # torch.save to a file turns a full disk's OSError into another error
    torch.save(checkpoint, content)
    with written_beside(path, keep) as file:
        file.write(content.getbuffer())


def check_readable(checkpoint, names):
    """Raise UserError unless `load` would take a checkpoint back, into a new network with tensors of these names."""
    content, made = io.BytesIO(), [name for name in checkpoint["model"] if name not in names]
    try:
        if made:
            raise ValueError(f"{made[0]} is made in the first forward: make it, of its shape, in __init__")
        torch.save(checkpoint, content)
        content.seek(0)
        _plain(content)
        config.of_checkpoint(checkpoint["config"])
    except (UserError, ValueError, TypeError, AttributeError, pickle.PicklingError) as error:  # pickle raises these
        advice = "fix that, or set save_checkpoint=false"
        raise UserError(f"a checkpoint of this run could not be read back ({error}): {advice}") from None


def load(path, experiment=None, remedy="name another"):
    """Read a checkpoint onto the CPU: one of ours, or one of the public code, also in its .zip.

    Args:
        experiment: name of the experiment it must be of; None takes any. The public code's do not record it.
        remedy: what errors advise.
    Raises UserError if it is missing, cut short, no checkpoint, of another experiment, or does not match its .sha256.
    """
    path = user_path(path)
    if not path.exists():
        raise UserError(
            f"no checkpoint at {path}: train first, or correct the path (--checkpoint, test_checkpoint_path)"
        )
    with reading(f"{path} is not a checkpoint or is cut short ({{reason}}): {remedy}", path):
        digest = Path(f"{path}.sha256")
        if digest.exists() and read_bytes(digest).split()[:1] != [sha256(path).encode()]:
            raise ValueError(f"its SHA-256 is not the one in {digest.name}")
        checkpoint = _plain(_unzipped(path))
    if published.is_published(checkpoint) and _are_weights(checkpoint["snn_state_dict"]):
        return checkpoint
    if not _is_ours(checkpoint):
        raise UserError(
            f"checkpoint {path} has no config, epoch and model, and no snn_state_dict, of tensors: {remedy}"
        )
    name = checkpoint["config"]["experiment_name"]
    if experiment and name != experiment:
        own = "" if name in experiments.NAMES else f", or its run with --set experiment_name={name}"
        raise UserError(f"checkpoint {path} is of {name}, not of {experiment}: {remedy}{own}")
    if not _is_history(checkpoint.get("history", [])):
        raise UserError(f"checkpoint {path}: its history is no list of epochs: {remedy}")
    try:
        return checkpoint | {"config": config.of_checkpoint(checkpoint["config"])}
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from None


def _plain(file):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of tensors that `check_tensors` refuses
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message is about how to load it all the same
        raise ValueError("torch.save did not write it, or it holds more than plain data") from None


def _is_ours(checkpoint):
    """Whether it has an epoch, a config with its experiment's name and a model of tensors."""
    return (
        isinstance(checkpoint, dict)
        and {"config", "model"} <= checkpoint.keys()
        and isinstance(checkpoint.get("epoch"), int)
        and isinstance(checkpoint["config"], dict)
        and isinstance(checkpoint["config"].get("experiment_name"), str)
        and _are_weights(checkpoint["model"])
    )


def _is_history(rows):
    """Whether it is a list of dicts of numbers, as rows of metrics.csv are."""
    try:
        rows = plain(rows)
    except ValueError:
        return False
    return isinstance(rows, list) and all(
        isinstance(row, dict) and all(isinstance(value, (int, float)) for value in row.values()) for row in rows
    )


def _are_weights(model):
    return isinstance(model, dict) and all(isinstance(key, str) and torch.is_tensor(model[key]) for key in model)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _unzipped(path):
    """Return what torch.load should read: the file itself (torch.save writes zips too), or the only file in a zip."""
    if not zipfile.is_zipfile(path) or _is_of_torch(path, path.stat().st_size):
        return path
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) != 1:
            raise ValueError(f"it is a zip of {len(entries)} files, one is expected: unpack it and name one")
        checked_entry(path, entries[0].filename)
        check_size(entries[0].file_size)
        inside = io.BytesIO(archive.read(entries[0]))
    if zipfile.is_zipfile(inside):
        _is_of_torch(inside, entries[0].file_size)
    inside.seek(0)
    return inside


def _is_of_torch(file, size):
    """Whether a zip of this size is one that torch.save writes; raise ValueError if it is damaged, or compressed."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if not any(entry.filename.endswith("data.pkl") for entry in entries):
            return False
        check_size(sum(entry.file_size for entry in entries), size)  # torch.save compresses nothing
        damaged = archive.testzip()  # torch.load does not look at the checksums that torch.save writes
        if damaged:
            raise ValueError(f"its part {damaged} is damaged")
    return True


def is_resumable(folder):
    """Whether a folder has a checkpoint that a run may resume from."""
    return any((Path(folder) / name).exists() for name in ("last.pt", "previous.pt"))


def load_to_resume(folder, experiment, warn=print):
    """Return the newest complete checkpoint in an experiment's folder, and its path.

    Raises UserError if there is none that a run can resume from.
    """
    last, previous = Path(folder) / "last.pt", Path(folder) / "previous.pt"
    path = last if last.exists() or not previous.exists() else previous
    if not path.exists():
        raise UserError(f"no checkpoint at {path}: there is no run to resume; leave out --resume")
    if path == last and previous.exists():
        try:
            return _load_whole(path, experiment, "it is left out"), path
        except UserError as error:
            warn(f"{error}; resuming from {previous}, the one before")
            path = previous
    return _load_whole(path, experiment, "start a new run without --resume"), path


def _load_whole(path, experiment, remedy):
    """Read a checkpoint that a run can resume from."""
    checkpoint = load(path, experiment, remedy)
    version = checkpoint.get("version")
    if not isinstance(version, int) or version != VERSION:
        why = f"is of version {version}, not {VERSION}" if version is not None else "holds weights only"
        raise UserError(f"checkpoint {path} {why} (evaluate it with --test): {remedy}")
    missing = TO_RESUME - checkpoint.keys()
    if missing:
        raise UserError(f"checkpoint {path} lacks {', '.join(sorted(missing))}: {remedy}")
    return checkpoint


def load_model(net, checkpoint, path):
    """Put the weights of a checkpoint, read from `path`, into a network; raise UserError as `check_tensors` does."""
    model = model_of(checkpoint, net, path)
    check_tensors(model, net.state_dict(), path)
    net.load_state_dict(model)


def model_of(checkpoint, net, path):
    """Return the tensors of a checkpoint by their names in a network; the public code's must be those of `net`."""
    return published.to_model(checkpoint, net, path) if published.is_published(checkpoint) else checkpoint["model"]
