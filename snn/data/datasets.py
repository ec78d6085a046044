"""The datasets, by the names that `dataset.name` may have."""

from contextlib import suppress

from snn.base.errors import UserError
from snn.base.keys import plain
from snn.base.output import note
from snn.data import ecg, gesture, images, nmnist, patterns, series
from snn.data.base import Split, Subset

OURS = (images, nmnist, gesture, patterns, series, ecg)
TABLE = {name: dataset for dataset in OURS for name in dataset.NAMES}


def module_of(name):
    """Return the dataset module that a name selects; None if there is none."""
    if not isinstance(name, str):
        return None
    is_series = series.is_name(name) and name.lower() not in TABLE  # MNIST is a misspelt mnist
    return TABLE.get(name, series if is_series else None)


def kind(dataset):
    """Return the module whose samples a dataset has: `series` where they come in arrays; else itself."""
    return series if isinstance(dataset, series.Arrays) else dataset


def add(dataset):
    """Add a module as `snn.data.base` describes it. Raises UserError if it lacks something, or takes another's name."""
    called = getattr(dataset, "__name__", repr(dataset))
    names, keys = getattr(dataset, "NAMES", None), getattr(dataset, "KEYS", None)
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise UserError(f"dataset {called}: NAMES is {names!r}; it must be a tuple of names, such as ('{called}',)")
    if not isinstance(keys, dict) or not isinstance(keys.get("dataset"), dict):
        raise UserError(f"dataset {called}: KEYS needs a section 'dataset', such as dataset_keys(NAMES)")
    if hasattr(dataset, "measure") and not isinstance(getattr(dataset, "MEASURED", None), dict):
        raise UserError(f"dataset {called}: measure(config) needs MEASURED, the keys of what it returns")
    if not callable(getattr(dataset, "load", None)):
        raise UserError(f"dataset {called} has no load(config, device, shape)")
    for name in names:
        if TABLE.get(name, dataset) is not dataset:
            raise UserError(f"dataset {called}: the name {name} in NAMES is taken: use another one")
        TABLE[name] = dataset


def measured(config, dataset=None):
    """Return the config with what its dataset tells under `measured`, if anything, unless it has that already.

    `dataset` is in place of that of its name.
    """
    measure = getattr(dataset or module_of(config["dataset"]["name"]), "measure", None)
    found = {} if "measured" in config or not measure else measure(config)
    with suppress(ValueError):  # then `check` says which key is wrong
        found = plain(found)
    return config | {"measured": found} if found else config


def class_names(config, count):
    """Return the names of a dataset's `count` classes, in the order of their labels, such as their numbers."""
    named = getattr(module_of(config["dataset"]["name"]), "class_names", None)
    names = [str(name) for name in named(config)] if named else []
    return [*names, *(f"output {n}" if names else str(n) for n in range(len(names), count))]


def load(config, device, shape, dataset=None):
    """Return the splits of the config's dataset, of the sizes it asks for, and a note for the end of the test line.

    `dataset` is in place of that of its name. Raises UserError if it gives something else, or a split has no sample.
    """
    name = config["dataset"]["name"]
    dataset = dataset or module_of(name)
    loaded = dataset.load(config, device, shape)
    if not (isinstance(loaded, tuple) and len(loaded) == 2 and isinstance(loaded[0], dict)):
        raise UserError(f"dataset {name}: load must return (splits by name, note), not {type(loaded).__name__}")
    splits, about = checked(loaded[0], name), loaded[1]
    for part, split in splits.items():
        size, samples = config["dataset"].get(f"{part}_size"), len(split) // split.repeats
        if size and size > samples:
            note(f"dataset.{part}_size: {size}, but {name} has {samples} {part} samples")
        if size and size < samples and dataset not in OURS:  # ours choose themselves: dev may be of whole people
            splits = splits | {part: Subset(split, size)}
    return splits, about


def checked(splits, name):
    """Return a dataset's splits: train, dev, test; raise UserError if one of these is missing or has no sample."""
    parts = {part: splits.get(part) for part in ("train", "dev", "test")}
    for part, split in parts.items():
        if problem := _problem(split):
            raise UserError(f"dataset {name}: its split {part} {problem}")
    return parts


def _problem(split):
    """Return what keeps something from being a split with samples; empty if nothing does."""
    if not isinstance(split, Split):
        return f"is {type(split).__name__}, not a Split"
    lacking = [name for name in ("device", "__len__") if not hasattr(split, name)]
    if type(split).batch is Split.batch and type(split).batches_of is Split.batches_of:
        lacking.append("batch")
    if lacking:
        return f"lacks {', '.join(lacking)}, which each Split needs"
    return "" if len(split) else "has no sample"
