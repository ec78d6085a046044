"""What keys a config may have and what values they may take: `SCHEMAS`, by the name of its dataset."""

import math
from pathlib import Path


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


def _seed(value):
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("an integer, at least 0, below 2^63")
    return value


_positive = _number("a number above 0", lambda v: v > 0)
_fraction = _number("a number from 0 to 1", lambda v: 0 <= v <= 1)
_count = _integer(1)


def _rising(values):
    return all(a < b for a, b in zip(values, values[1:]))


_IMAGES = {
    "encoding": _choice("copy", "poisson"),
    "dataset": {
        "name": _choice("mnist", "digits"),
        "root": _text,
        "download": _boolean,
        "train_size": _integer(0),
        "dev_size": _integer(0),
        "test_size": _integer(0),
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
}  # fmt: skip

_EVENTS = {
    "root": _text,
    "skip_bad": _boolean,
    "shift": _integer(0),
    "train_size": _integer(0),
    "dev_size": _integer(0),
    "test_size": _integer(0),
}
_NMNIST = {
    "encoding": _choice("or"),
    "dataset": {"name": _choice("nmnist", "nmnist_simulated"), **_EVENTS},
}
_GESTURE = {
    "encoding": _choice("or", "max"),
    "dataset": {
        "name": _choice("gesture", "gesture_simulated"),
        "dev_split": _choice("random", "subject"),
        **_EVENTS,
    },
}
_PATTERNS = {
    "encoding": _choice("original"),
    "dataset": {
        "name": _choice("patterns"),
        "patterns": _text,
        "delay": _integer(0),
        "train_size": _count,
        "dev_size": _count,
        "test_size": _count,
    },
    "corruption": {
        "probability": _fraction,
        "jitter_probability": _fraction,
        "jitter_std": _number("a number of steps, at least 0", lambda v: v >= 0),
        "silence_probability": _fraction,
        "block_probability": _fraction,
        "block_size": _count,
        "rows": _count,
        "noise": _fraction,
    },
}

_EVERYWHERE = {
    "experiment_name": _file_name,
    "pytorch_seed": _seed,
    "device": _text,
    "precision": _choice("float32", "tf32", "bf16"),
    "states": _choice("zero", "preserved"),
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
        "stable_filters": _boolean,
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
    "save_checkpoint": _boolean,
    "checkpoint_every": _integer(0),
    "checkpoint_base_path": _text,
    "test_checkpoint_path": _text,
}

# The keys of a config, nested as in its YAML, each with the check of its values; by the name of its dataset.
SCHEMAS = {
    name: _EVERYWHERE | of_dataset
    for names, of_dataset in (
        (("mnist", "digits"), _IMAGES),
        (("nmnist", "nmnist_simulated"), _NMNIST),
        (("gesture", "gesture_simulated"), _GESTURE),
        (("patterns",), _PATTERNS),
    )
    for name in names
}
