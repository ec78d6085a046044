"""A run's config: each key's value comes from the source with the highest precedence.

Sources from lowest to highest precedence: the schema's default, configs/<experiment>.yaml, --config_file, the `demo`
section (--demo), the checkpoint to evaluate (for what defines the network, and to predict what answers depend on),
--set, and --device, --init_from and --freeze.
"""

import copy
import difflib
import json
import re
import reprlib

from snn import experiments
from snn.base import yamls
from snn.base.errors import UserError
from snn.base.keys import REQUIRED, Key, file_name, folder_path, string, typed_path
from snn.config.schema import EVERYWHERE
from snn.config.sources import settings_in
from snn.data import datasets
from snn.kernels import surrogates

# Keys of the published configs that are read under another name, or not used here.
MISSPELT = {"droupout": "dropout", "membrane_filer": "membrane_filter"}
UNUSED = {
    "checkpoint_base_name": "checkpoints are <checkpoint_base_path>/<experiment_name>/best.pt and last.pt",
    "acc_file_name": "accuracies are in runs/<experiment_name>/<time>/metrics.csv",
}
# What the published code used regardless of its config: a config that differs gives numbers that differ from its.
FIXED_IN_PUBLISHED_CODE = {
    "hyperparameters.dropout": 0.3,
    "mnist_config.max_rate": 1,
    "transform.RandomResizedCrop.interpolation": "bilinear",
}


def as_spelt(key):
    """Return a key such as a.b, which may be misspelt as in the public code, as it is spelt here."""
    group, dot, name = key.rpartition(".")
    return group + dot + MISSPELT.get(name, name)


def schema_of(config):
    """Return the keys of a config with its dataset, nested as in the YAML; for an unknown dataset, those of all."""
    return _merged(EVERYWHERE, getattr(datasets.module_of(get(config, "dataset.name")), "KEYS", {}))


def _merged(schema, more):
    """Return a schema with the keys of another one added, group by group."""
    merged = dict(schema)
    for name, entry in more.items():
        both = isinstance(entry, dict) and isinstance(schema.get(name), dict)
        merged[name] = _merged(schema[name], entry) if both else entry
    return merged


def keys_of(schema, prefix=""):
    """Yield (key such as `hyperparameters.length`, its Key) for each key of a schema."""
    for name, entry in schema.items():
        if isinstance(entry, Key):
            yield prefix + name, entry
        else:
            yield from keys_of(entry, f"{prefix}{name}.")


def resolve(default_file, config_file=None, demo=False, overrides=(), warn=print, sources=None):
    """Return the config of a run, every key present and checked.

    Args:
        default_file: the experiment's own YAML, or what it would hold, a dict.
        config_file: a YAML overlay, applied key by key, or a dict as well.
        demo: whether to overlay the `demo` section; the experiment's name then ends with `-demo`.
        overrides: strings `a.b=value`, the value in YAML.
        warn: called with one line for each thing that the user should know.
        sources: a dict to fill with the source of each value but defaults, by keys such as `hyperparameters.length`.

    Raises UserError for an unknown key, a value of the wrong type or out of range, and a file that is not YAML.
    """
    own, where = settings_in(default_file)
    _check_dataset(own)
    schema = schema_of(own)
    config = filled({}, schema)
    sources = {} if sources is None else sources

    def lay_over(settings, source):
        _lay_over(config, settings, source, warn, schema, sources)

    demo_settings = own.pop("demo", None)
    lay_over(own, where)
    if config_file:
        settings, where = settings_in(config_file)
        demo_settings = settings.pop("demo", demo_settings)
        lay_over(settings, where)
    if demo:
        if demo_settings is None:
            raise UserError(f"--demo: {default_file} has no section demo, which says what to change for it")
        lay_over(demo_settings, "--demo")
        if isinstance(name := config.get("experiment_name"), str):  # else `check` says what is wrong
            lay_over({"experiment_name": f"{name}-demo", "test_checkpoint_path": ""}, "--demo")
    for override in overrides:
        lay_over(_typed(override, schema, config), "--set")
    config = check(config, schema, sources)
    ships = config["experiment_name"].removesuffix("-demo") in experiments.NAMES
    for key, published in FIXED_IN_PUBLISHED_CODE.items() if ships else ():
        # Experiments that are not of the published code start otherwise.
        if config["hyperparameters"]["init"] == "published" and get(config, key) not in (published, None):
            warn(f"{key}: {get(config, key)} here; the published code read no such key, and always used {published}")
    return config


def note_unread(config, sources, warn):
    """Warn of each key that was given by --set, and that nothing reads beside the others."""
    for key, entry in keys_of(schema_of(config)):
        if sources.get(key) != "--set":
            continue
        others = [other for other, values in entry.unread.items() if get(config, other) in values]
        group, _, section = key.rpartition(".")[0].partition(".")
        choice = f"{group}.{group}_choice"  # of the optimizer's and the scheduler's sections the one that is read
        if section and get(config, choice) not in (None, section):
            others.insert(0, choice)
        if others:
            value = json.dumps(get(config, others[0])).strip('"')
            warn(f"--set: {key} has no effect here: {others[0]} is {value}")


def _typed(override, schema, config):
    """Return the settings, nested, in a string `a.b=value`; beside one of a mapping's values, its others."""
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"--set {override}: write key=value, such as --set hyperparameters.epoch=1")
    entry = get(schema, key)
    if isinstance(entry, dict):
        raise UserError(f"--set {override}: {key} is a group; set one of {', '.join(entry)} in it")
    has_hash = re.search(r"(^|\s)#", value) and not value.lstrip().startswith(("[", "{"))  # it begins a comment
    as_it_is = has_hash or getattr(entry, "check", None) in (typed_path, folder_path, file_name, string)
    if not as_it_is or value.lstrip().startswith(("'", '"')):
        value = yamls.load(value, f"--set {override[:100]}")
    names = key.split(".")
    for n in reversed(range(len(names))):
        value, above = {names[n]: value}, ".".join(names[:n])
        if above and isinstance(get(schema, above), Key) and isinstance(others := get(config, above), dict):
            value = others | value
    return value


def filled(config, schema):
    """Return `config` with the schema's default for each key that it lacks and that has one."""
    for name, entry in schema.items():
        if not isinstance(entry, Key):
            group = config.setdefault(name, {})
            if isinstance(group, dict):
                filled(group, entry)
        elif entry.default is not REQUIRED:
            config.setdefault(name, copy.deepcopy(entry.default))
    return config


def shared(config):
    """Return the values that must be the same on all ranks of a run, by key: all but where each finds its data."""
    elsewhere = ("device", "dataset.root")
    return {key: get(config, key) for key, _ in keys_of(schema_of(config)) if key not in elsewhere}


def check(config, schema=None, sources=None, known_only=True):
    """Return a copy of `config` in which every key is present and every value is checked.

    `schema` is that of the config's dataset unless another is given; `sources` says where each value comes from.
    Raises UserError that names the first key that is unknown (if `known_only`), missing, of the wrong type or out of
    range.
    """
    if known_only:
        _check_dataset(config)
    schema = schema or schema_of(config)
    if "measured" in config:
        own = getattr(datasets.module_of(get(config, "dataset.name")), "MEASURED", {})
        schema = schema | {"measured": own}
        if isinstance(config["measured"], dict):
            config = config | {"measured": filled(dict(config["measured"]), own)}
    config = _check(config, schema, sources or {}, known_only)
    p, cyclic = config["hyperparameters"], config["scheduler"]["CyclicLR"]
    if p["synapse_type"] == "dual_exp":
        _check_above("hyperparameters.tau_m", p["tau_m"], "hyperparameters.tau_s", p["tau_s"])
    _check_above("hyperparameters.filter_tau_m", p["filter_tau_m"], "hyperparameters.filter_tau_s", p["filter_tau_s"])
    _check_above("scheduler.CyclicLR.max_lr", cyclic["max_lr"], "scheduler.CyclicLR.base_lr", cyclic["base_lr"])
    if p["chunk"] and p["truncate"]:
        raise UserError(
            f"config: hyperparameters.chunk: {p['chunk']} is not allowed with hyperparameters.truncate, whose chunks "
            "end where gradients stop: use 0 for one of them"
        )
    key = "surrogate_arguments"
    try:
        surrogate = surrogates.make(p["surrogate"], p[key])
        key = "surrogate"
        surrogates.checked(surrogate)
    except ValueError as error:
        raise UserError(f"config: hyperparameters.{key}: {_short(p[key])} is not allowed: {error}") from None
    return config


def get(config, key):
    """Return the value of a key such as `hyperparameters.length`; None if there is none."""
    for name in filter(None, key.split(".")):
        config = config.get(name) if isinstance(config, dict) else None
    return config


def _lay_over(config, settings, source, warn, schema, sources, prefix=""):
    """Overlay `settings` on `config`, key by key; an unknown key is an error."""
    if not isinstance(settings, dict):
        raise UserError(
            f"{source}: {prefix.rstrip('.') or 'the file'}: keys and values expected, got {_short(settings)}"
        )
    for key, value in settings.items():
        if not prefix and key in UNUSED:
            warn(f"{source}: {key} has no effect here: {UNUSED[key]}")
            continue
        if not prefix and key not in schema and any(key in dataset.KEYS for dataset in datasets.TABLE.values()):
            warn(f"{source}: {key} has no effect in this experiment")
            continue
        if key in MISSPELT and MISSPELT[key] in schema:
            warn(f"{source}: {prefix}{key} is read as {prefix}{MISSPELT[key]}")
            key = MISSPELT[key]
        if key not in schema:
            raise UserError(f"{source}: {prefix}{key}: {_unknown(key, schema, prefix)}")
        if not isinstance(schema[key], Key):
            if not isinstance(config.get(key), dict):
                config[key] = {}
            _lay_over(config[key], value, source, warn, schema[key], sources, f"{prefix}{key}.")
        else:
            config[key] = value
            sources[prefix + key] = source


def _check(config, schema, sources, known_only, prefix=""):
    """Return a copy of `config` in which every value is checked."""
    if not isinstance(config, dict):
        raise UserError(f"config: {prefix.rstrip('.')}: keys and values expected, got {_short(config)}")
    for key in config:
        if known_only and key not in schema:
            raise UserError(f"config: {prefix}{key}: {_unknown(key, schema, prefix)}")
    checked = {} if known_only else dict(config)
    for key, entry in schema.items():
        if key not in config:
            raise UserError(f"config: {prefix}{key} is missing")
        if not isinstance(entry, Key):
            checked[key] = _check(config[key], entry, sources, known_only, f"{prefix}{key}.")
        else:
            try:
                checked[key] = entry.check(config[key])
            except ValueError as error:
                source = sources.get(prefix + key, "config")
                raise UserError(f"{source}: {prefix}{key}: {_short(config[key])} is not allowed; use {error}") from None
    return checked


def _check_dataset(config):
    name = get(config, "dataset.name")
    if datasets.module_of(name) is None:
        names, series = " or ".join(datasets.TABLE), "or the name of a time series, which begins with a capital"
        raise UserError(f"config: dataset.name: {_short(name)} is not allowed; use {names}, {series}")


def _short(value):
    """Return a value as in Python, cut where it is long."""
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = 100
    return shortened.repr(value)


def _check_above(larger_key, larger, smaller_key, smaller):
    if not larger > smaller:
        raise UserError(f"config: {larger_key}: {larger} is not allowed; it must be above {smaller_key}, {smaller}")


def _unknown(key, schema, prefix):
    inside = [name for name, _ in keys_of(schema) if name.endswith(f".{key}")]
    close = [prefix + name for name in inside or difflib.get_close_matches(str(key), schema, n=1)]
    known = f"did you mean {' or '.join(close)}?" if close else f"the keys here are {', '.join(schema)}"
    return f"unknown key; {known}"
