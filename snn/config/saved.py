"""The configs of checkpoints and of other runs: completed, followed, and compared with that of a run now."""

import copy
import json
import shlex

from snn.base.errors import UserError
from snn.base.keys import LENGTH, NETWORK, PLACE, Key, folder_path, plain
from snn.config.settings import as_spelt, check, filled, get, keys_of, schema_of

MILESTONES = "scheduler.MultiStepLR.milestones"
BATCH_SIZE = "hyperparameters.batch_size"
ANSWERS = "precision", "pytorch_seed", BATCH_SIZE  # what answers depend on, besides the network: rounding and draws
EPOCHS = "hyperparameters.epoch"
RESTART = "scheduler.CosineAnnealingWarmRestarts.T_0"
TIES = "ties"  # how answers are read off a network: it trains the same
SAMPLES = "dataset.name", "dataset.file", "dataset.patterns"  # keys that choose them
NAMING = ("experiment_name", "pytorch_seed", "measured")  # which run of an experiment it is, and on which draw of data


def of_checkpoint(saved):
    """Return a checkpoint's config, completed and checked as one from YAML is.

    Keys that are unknown here stay as they are: they are a dataset's of one's own, or of another version. Raises
    UserError for what YAML can't hold, and as `check` does.
    """
    try:
        saved = plain(saved)
    except ValueError as error:
        raise UserError(f"config: it may hold {error} only") from None
    if not isinstance(get(saved, "dataset.name"), str):
        raise UserError("config: dataset.name is missing")
    for key, entry in keys_of(schema_of(saved)):
        if entry.check is folder_path and get(saved, key) == "":  # of a run from before that was refused
            group, _, name = key.rpartition(".")
            get(saved, group)[name] = "."
    return check(completed(saved), known_only=False)


def completed(saved):
    """Return the config of a run, with the defaults of keys that were added since."""
    return filled(copy.deepcopy(saved), schema_of(saved))


def defaults(saved):
    """Return a config of the defaults of all keys that the config of a run may have."""
    return filled({}, schema_of(saved))


def check_resumed(config, saved, epochs, warn=print):
    """Return the config of a run that resumes with `config` after `epochs` epochs with `saved`, its checkpoint's.

    Places (where a run executes and keeps its files), its length, the rule for ties, and learning rate milestones that
    are still to come may change; what was measured of the dataset stays. Raises UserError that names all other keys
    that differ.
    """
    saved, differing = completed(saved), []
    for key, entry in keys_of(schema_of(config)):
        now, then = get(config, key), get(saved, key)
        if now == then or entry.affects == PLACE:
            continue
        is_past = key == MILESTONES and _past(now, epochs) != _past(then, epochs)
        if is_past or not (entry.affects == LENGTH or key == TIES):
            differing.append(f"{key} (was {then}, now {now})")
        else:
            warn(f"{key}: {now} from now on, {then} so far")
    if differing:
        raise UserError(
            f"--resume needs the same config, but it differs in {', '.join(differing)}: restore these values, "
            "or leave out --resume to start a new run"
        )
    cycle = get(config, RESTART)
    restart = -(-get(saved, EPOCHS) // cycle) * cycle  # the first that was not planned
    restarts = config["scheduler"]["scheduler_choice"] == "CosineAnnealingWarmRestarts"
    if restarts and restart < get(config, EPOCHS):
        warn(f"epoch {restart} starts again at the full learning rate: {RESTART} is {cycle}")
    return _with_measured(config, saved)


def _past(milestones, epochs):
    return [milestone for milestone in milestones if milestone <= epochs]


def _with_measured(config, saved):
    """Return a config with what a checkpoint's run measured of its dataset."""
    return config | {"measured": saved["measured"]} if "measured" in saved else config


def follow_checkpoint(config, saved, overrides=(), warn=print, sources=None, to_predict=False):
    """Return the config with the network's keys as in `saved`, a checkpoint's config, unless `overrides` set them.

    So are ANSWERS `to_predict`, the batch size if states are preserved, and what its run measured of its dataset, such
    as classes and scaling. The dataset is not, but for its keys that define the network.
    """
    config, saved = copy.deepcopy(config), completed(saved)
    for key in SAMPLES:
        now, then = (get(of, key) or "what ships" for of in (config, saved))
        if now != then and (key == "dataset.name" or "what ships" in (now, then)):  # else a file may have moved
            warn(f"{key}: {now}, where the checkpoint's run had {then}")
    set_by_hand = [f"{as_spelt(override.partition('=')[0])}." for override in overrides]
    for key, entry in keys_of(schema_of(config)):
        now, then = get(config, key), get(saved, key)
        # With states preserved, answers depend on which samples follow each other in a batch's rows.
        goes_on = key == BATCH_SIZE and config["states"] == saved["states"] == "preserved"
        follows = entry.affects == NETWORK or goes_on or to_predict and key in ANSWERS
        if not follows or then in (None, now) or any(name.startswith(f"{key}.") for name in set_by_hand):
            continue
        typed = json.dumps(now) if isinstance(now, (list, dict)) else now
        option = shlex.join(["--set", f"{key}={typed}"])
        warn(f"{key}: {then} from the checkpoint, not {now}; override it with {option}")
        group, _, name = key.rpartition(".")
        get(config, group)[name] = then
        if sources is not None:
            sources[key] = "the checkpoint"
    return _with_measured(config, saved)


def values(config):
    """Return all that sets the config of a run apart from others, by key.

    Not its name, its seed, what was measured, and its places, but for those of the samples.
    """
    apart = {name: value for name, value in completed(config).items() if name not in NAMING}
    return dict(_values(apart, schema_of(config)))


def _values(config, schema, prefix=""):
    for name, value in config.items():
        entry = schema.get(name, {})  # none of a dataset of one's own
        if isinstance(entry, Key):
            if entry.affects != PLACE or prefix + name in SAMPLES:
                yield prefix + name, value
        elif isinstance(value, dict):
            yield from _values(value, entry, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def changed(config, own):
    """Return the overrides of `config` over `own`, the config of its experiment or `defaults`: strings `a.b=value`."""
    now = values(config)
    return [f"{key}={json.dumps(now[key])}" for key, value in values(own).items() if now.get(key, value) != value]
