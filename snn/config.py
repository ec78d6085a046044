"""Configs: what keys there are, what values they may have, and how the layers of settings come together.

The later, the stronger: configs/<experiment>.yaml, --config_file, the `demo` section (--demo), the checkpoint that is
evaluated or resumed (for what defines the network), --set.
"""

import copy
import difflib
import math
from pathlib import Path

import yaml

from snn.errors import UserError


# Kinds of values. Each takes what YAML gave and returns the value, or raises ValueError that says what is allowed.
def _boolean(value):
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _text(value):
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _file_name(value):
    if not isinstance(value, str) or not value or Path(value).name != value:
        raise ValueError("a name that can name a folder")
    return value


def _choice(*names):
    def check(value):
        if value not in names:
            raise ValueError(" or ".join(names))
        return value

    return check


def _interpolation(value):
    """Also as the published configs' Pillow constants write it: `PIL.Image.BILINEAR`, `2`."""
    name = str(value).rsplit(".")[-1].lower()
    return _choice("bilinear", "nearest")({"0": "nearest", "2": "bilinear"}.get(name, name))


def _image_size(value):
    if value not in (28, [28, 28]):
        raise ValueError("[28, 28], the size of the images")
    return [28, 28]


def _integer(at_least):
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise ValueError(f"an integer, at least {at_least}")
        return value

    return check


def _number(allowed, test):
    def check(value):
        if isinstance(value, str):  # YAML reads 1e-4, without a point, as text
            try:
                value = float(value)
            except ValueError:
                raise ValueError(allowed) from None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not test(value):
            raise ValueError(allowed)
        return value

    return check


def _list_of(check_item, allowed, test):
    def check(value):
        if not isinstance(value, (list, tuple)):
            raise ValueError(allowed)
        value = [check_item(item) for item in value]
        if not test(value):
            raise ValueError(allowed)
        return value

    return check


_positive = _number("a number above 0", lambda v: v > 0)
_fraction = _number("a number from 0 to 1", lambda v: 0 <= v <= 1)
_count = _integer(1)


def _rising(values):
    return all(a < b for a, b in zip(values, values[1:]))


SCHEMA = {
    "experiment_name": _file_name,
    "pytorch_seed": _integer(0),
    "device": _text,
    "precision": _choice("float32", "tf32", "bf16"),
    "encoding": _choice("copy", "poisson"),
    "states": _choice("zero", "preserved"),
    "dataset": {
        "name": _choice("mnist", "digits"),
        "root": _text,
        "download": _boolean,
        "train_size": _integer(0),
        "dev_size": _integer(0),
        "test_size": _integer(0),
    },
    "hyperparameters": {
        "length": _count,
        "batch_size": _count,
        "epoch": _count,
        "synapse_type": _choice("dual_exp", "first_order"),
        "tau_m": _positive,
        "tau_s": _positive,
        "filter_tau_m": _positive,
        "filter_tau_s": _positive,
        "membrane_filter": _boolean,
        "train_coefficients": _boolean,
        "train_bias": _boolean,
        "dropout": _number("a number from 0 to below 1", lambda v: 0 <= v < 1),
    },
    "optimizer": {
        "optimizer_choice": _choice("Adam", "AdamW", "SGD"),
        "Adam": {"lr": _positive},
        "AdamW": {"lr": _positive},
        "SGD": {"lr": _positive},
    },
    "scheduler": {
        "scheduler_choice": _choice("MultiStepLR", "CosineAnnealingWarmRestarts", "CyclicLR", "none"),
        "MultiStepLR": {
            "milestones": _list_of(_count, "a list of epochs that rise, such as [50, 100]", _rising),
            "gamma": _positive,
        },
        "CosineAnnealingWarmRestarts": {"T_0": _count},
        "CyclicLR": {"base_lr": _positive, "max_lr": _positive, "step_size_up": _count},
    },
    "mnist_config": {"max_rate": _fraction, "use_transform": _boolean},
    "transform": {
        "RandomApply": {"probability": _fraction},
        "RandomResizedCrop": {
            "size": _image_size,
            "scale": _list_of(_positive, "[smallest, largest] share of the area, at most 1",
                              lambda v: len(v) == 2 and v[0] <= v[1] <= 1),
            "ratio": _list_of(_positive, "[smallest, largest] ratio of width to height",
                              lambda v: len(v) == 2 and v[0] <= v[1]),
            "interpolation": _interpolation,
        },
        "RandomRotation": {"angle": _number("a number of degrees, 0 to 180", lambda v: 0 <= v <= 180)},
    },
    "save_checkpoint": _boolean,
    "checkpoint_base_path": _text,
    "test_checkpoint_path": _text,
}  # fmt: skip

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
    f"hyperparameters.{key}" for key in SCHEMA["hyperparameters"] if key not in ("batch_size", "epoch")
)


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
    demo_settings = config.pop("demo", {})
    if config_file:
        settings = read(config_file)
        demo_settings = settings.pop("demo", demo_settings)
        _lay_over(config, settings, config_file, warn)
    if demo:
        _lay_over(config, demo_settings, "the config's demo section", warn)
        config["experiment_name"] = f"{config.get('experiment_name')}-demo"
        config["test_checkpoint_path"] = ""
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: write key=value, such as --set hyperparameters.epoch=1")
        if isinstance(get(SCHEMA, key), dict):
            raise UserError(f"--set {override}: {key} is a group; set one of {', '.join(get(SCHEMA, key))} in it")
        try:
            settings = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {override}: the value is not YAML") from None
        for name in reversed(key.split(".")):
            settings = {name: settings}
        _lay_over(config, settings, "--set", warn)
    config = check(config)
    for key, published in FIXED_IN_PUBLISHED_CODE.items():
        if get(config, key) != published:
            warn(f"{key}: {get(config, key)} takes effect here; the published code always used {published}")
    return config


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


def check(config):
    """A copy of `config` in which every key is there and every value has passed its check.

    Raises UserError that names the first key that is unknown, missing, of a wrong type or out of range.
    """
    config = _check(config, SCHEMA)
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


def _lay_over(config, settings, source, warn, schema=SCHEMA, prefix=""):
    """Put `settings` over `config`, key by key; an unknown key is an error."""
    if not isinstance(settings, dict):
        raise UserError(f"{source}: {prefix.rstrip('.') or 'the file'}: keys and values expected, got {settings!r}")
    for key, value in settings.items():
        if not prefix and key in UNUSED:
            warn(f"{source}: {key} has no effect here: {UNUSED[key]}")
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
