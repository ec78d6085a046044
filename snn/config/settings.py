"""Configs: what keys there are, what values they may have, and how the layers of settings come together.

The later, the stronger: configs/<experiment>.yaml, --config_file, the `demo` section (--demo), the checkpoint that is
evaluated (for what defines the network), --set.
"""

import copy
import difflib
import json
from pathlib import Path

import yaml

from snn.base.errors import UserError
from snn.config.schema import SCHEMAS

# Keys of the published configs that are read under another name, or that nothing here needs.
MISSPELT = {"droupout": "dropout", "membrane_filer": "membrane_filter"}
UNUSED = {
    "checkpoint_base_name": "checkpoints are <checkpoint_base_path>/<experiment_name>/best.pt and last.pt",
    "acc_file_name": "accuracies are in runs/<experiment_name>/<time>/metrics.csv",
}
# What the published code used whatever its config said: where a config differs, its numbers differ from that code's.
FIXED_IN_PUBLISHED_CODE = {
    "hyperparameters.dropout": 0.3,
    "mnist_config.max_rate": 1,
    "transform.RandomResizedCrop.interpolation": "bilinear",
}
# What a checkpoint's network was trained with, and is evaluated with.
OF_THE_NETWORK = ("encoding", "states", "mnist_config.max_rate") + tuple(
    f"hyperparameters.{key}" for key in SCHEMAS["mnist"]["hyperparameters"] if key not in ("batch_size", "epoch")
)

MILESTONES = "scheduler.MultiStepLR.milestones"
# Where a training runs and where its files are: all that says nothing of its numbers.
PLACES = (
    "device", "dataset.root", "dataset.download", "checkpoint_every", "save_checkpoint", "checkpoint_base_path",
    "test_checkpoint_path",
)  # fmt: skip
FREE_WHEN_RESUMED = (*PLACES, "hyperparameters.epoch", MILESTONES)  # what may change when a training is resumed


def read(path):
    """The settings in a YAML file, as nested dicts."""
    try:
        settings = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"config {path}: {error.strerror}; --config_file names a YAML file") from None
    except UnicodeDecodeError:
        raise UserError(f"config {path}: not a text file; --config_file names a YAML file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"config {path}{where}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(settings, dict):
        raise UserError(f"config {path}: holds no keys; compare configs/snn_mlp_1.yaml")
    return settings


def resolve(default_file, config_file=None, demo=False, overrides=(), warn=print):
    """The config of a run, every key present and checked.

    Args:
        default_file: the experiment's own YAML; it has every key.
        config_file: a YAML laid over it, key by key.
        demo: whether its `demo` section is laid over, and the experiment's name gets `-demo` behind it.
        overrides: texts `a.b=value`, the value in YAML.
        warn: called with one line for each thing that a user should know of.

    Raises UserError for a key that does not exist, a value of a wrong type or out of range, and a file that is no YAML.
    """
    config = read(default_file)
    schema = _schema_of(config)
    demo_settings = config.pop("demo", {})
    if config_file:
        settings = read(config_file)
        demo_settings = settings.pop("demo", demo_settings)
        _lay_over(config, settings, config_file, warn, schema)
    if demo:
        _lay_over(config, demo_settings, "the config's demo section", warn, schema)
        config["experiment_name"] = f"{config.get('experiment_name')}-demo"
        config["test_checkpoint_path"] = ""
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: write key=value, such as --set hyperparameters.epoch=1")
        if isinstance(get(schema, key), dict):
            raise UserError(f"--set {override}: {key} is a group; set one of {', '.join(get(schema, key))} in it")
        try:
            settings = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {override}: the value is not YAML") from None
        for name in reversed(key.split(".")):
            settings = {name: settings}
        _lay_over(config, settings, "--set", warn, schema)
    config = check(config, schema)
    for key, published in FIXED_IN_PUBLISHED_CODE.items():
        if get(config, key) not in (published, None):
            warn(f"{key}: {get(config, key)} takes effect here; the published code always used {published}")
    return config


def check_resumed(config, saved, epochs, warn=print):
    """Check that a training can go on with `config` after so many epochs with `saved`, its checkpoint's config.

    Where the files are and how long the training lasts may change, and learning rate milestones that are to come.
    Raises UserError that names all keys that may not.
    """
    now, then = _flat(config), _flat(saved)
    differing = [key for key in now | then if now.get(key) != then.get(key) and key not in FREE_WHEN_RESUMED]
    for key in ("hyperparameters.epoch", MILESTONES):
        if now[key] != then[key]:
            warn(f"{key}: {now[key]} from now on, {then[key]} so far")
    if [m for m in now[MILESTONES] if m <= epochs] != [m for m in then[MILESTONES] if m <= epochs]:
        differing.append(MILESTONES)
    if differing:
        keys = ", ".join(f"{key} (was {then.get(key)}, now {now.get(key)})" for key in differing)
        raise UserError(f"--resume goes on with the same config, but it differs in {keys}: set it back, or train anew")


def changed(config, own):
    """What `config` sets otherwise than its experiment's `own`, but places and seed, as a list of texts `a.b=value`."""
    flat, own = _flat(config), _flat(own)
    keys = [key for key in flat if key in own and flat[key] != own[key] and key not in (*PLACES, "pytorch_seed")]
    return [f"{key}={json.dumps(flat[key])}" for key in keys]


def _flat(config, prefix=""):
    """The values of a config by keys such as `hyperparameters.length`."""
    flat = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def follow_checkpoint(config, saved, overrides=(), warn=print):
    """The config with what defines the network as in `saved`, a checkpoint's config; --set `overrides` stay."""
    config = copy.deepcopy(config)
    set_by_hand = {override.partition("=")[0] for override in overrides}
    for key in OF_THE_NETWORK:
        now, then = get(config, key), get(saved, key)
        if then is not None and then != now and key not in set_by_hand:
            warn(f"{key}: {then}, as in the checkpoint, not {now}; --set {key}={now} would override")
            *parents, last = key.split(".")
            get(config, ".".join(parents))[last] = then
    return check(config)


def check(config, schema=None):
    """A copy of `config` in which every key is there and every value has passed its check.

    `schema` is that of the config's dataset unless another is given.
    Raises UserError that names the first key that is unknown, missing, of a wrong type or out of range.
    """
    config = _check(config, schema or _schema_of(config))
    p, cyclic = config["hyperparameters"], config["scheduler"]["CyclicLR"]
    if p["synapse_type"] == "dual_exp":
        _check_above("hyperparameters.tau_m", p["tau_m"], "hyperparameters.tau_s", p["tau_s"])
    _check_above("hyperparameters.filter_tau_m", p["filter_tau_m"], "hyperparameters.filter_tau_s", p["filter_tau_s"])
    _check_above("scheduler.CyclicLR.max_lr", cyclic["max_lr"], "scheduler.CyclicLR.base_lr", cyclic["base_lr"])
    return config


def get(config, key):
    """The value of a key such as `hyperparameters.length`; None where there is none."""
    for name in filter(None, key.split(".")):
        config = config.get(name) if isinstance(config, dict) else None
    return config


def _schema_of(config):
    """The schema of the config's dataset."""
    name = get(config, "dataset.name")
    if not isinstance(name, str) or name not in SCHEMAS:
        raise UserError(f"config: dataset.name: {name!r} is not allowed; use {' or '.join(SCHEMAS)}")
    return SCHEMAS[name]


def _lay_over(config, settings, source, warn, schema, prefix=""):
    """Put `settings` over `config`, key by key; an unknown key is an error."""
    if not isinstance(settings, dict):
        raise UserError(f"{source}: {prefix.rstrip('.') or 'the file'}: keys and values expected, got {settings!r}")
    for key, value in settings.items():
        if not prefix and key in UNUSED:
            warn(f"{source}: {key} has no effect here: {UNUSED[key]}")
            continue
        if not prefix and key not in schema and any(key in other for other in SCHEMAS.values()):
            warn(f"{source}: {key} has no effect in this experiment")
            continue
        if key in MISSPELT and MISSPELT[key] in schema:
            warn(f"{source}: {prefix}{key} is read as {prefix}{MISSPELT[key]}")
            key = MISSPELT[key]
        if key not in schema:
            raise UserError(f"{source}: {prefix}{key}: {_unknown(key, schema)}")
        if isinstance(schema[key], dict):
            if not isinstance(config.get(key), dict):
                config[key] = {}
            _lay_over(config[key], value, source, warn, schema[key], f"{prefix}{key}.")
        else:
            config[key] = value


def _check(config, schema, prefix=""):
    """A copy of `config` whose every value has passed its check."""
    if not isinstance(config, dict):
        raise UserError(f"config: {prefix.rstrip('.')}: keys and values expected, got {config!r}")
    for key in config:
        if key not in schema:
            raise UserError(f"config: {prefix}{key}: {_unknown(key, schema)}")
    checked = {}
    for key, check in schema.items():
        if key not in config:
            raise UserError(f"config: {prefix}{key} is missing")
        if isinstance(check, dict):
            checked[key] = _check(config[key], check, f"{prefix}{key}.")
        else:
            try:
                checked[key] = check(config[key])
            except ValueError as error:
                raise UserError(f"config: {prefix}{key}: {config[key]!r} is not allowed; use {error}") from None
    return checked


def _check_above(larger_key, larger, smaller_key, smaller):
    if not larger > smaller:
        raise UserError(f"config: {larger_key}: {larger} is not allowed; it must be above {smaller_key}, {smaller}")


def _unknown(key, schema):
    close = difflib.get_close_matches(str(key), schema, n=1)
    return "unknown key" + (f"; did you mean {close[0]}?" if close else f"; the keys here are {', '.join(schema)}")
