"""Where settings come from: YAML files, and dicts as they would hold."""

import json
import os
from pathlib import Path

import numpy

from snn.base import yamls
from snn.base.errors import UserError
from snn.base.files import read_bytes, reading, user_path

LARGEST = 1 << 20  # bytes of a config


def settings_in(source):
    """Return the settings in a YAML file or in a dict, and what an error calls it."""
    if not isinstance(source, dict):
        return read(source), _shown(source)
    try:
        settings = json.loads(json.dumps(source, default=_as_in_yaml))
        settings.pop("measured", None)  # of a run's config; it is measured again
        return settings, "config"
    except (TypeError, ValueError) as error:
        raise UserError(f"config: {error}; it may hold strings, numbers, and lists and mappings of them") from None


def read(path):
    """Return the settings in a YAML file, as nested dicts."""
    path = user_path(path)
    with reading(f"config {path}: {{reason}}; --config_file, or the config_file of main, must name a YAML file", path):
        text = read_bytes(path, LARGEST).decode("utf-8-sig")
    settings = yamls.load(text, f"config {path}")
    if not isinstance(settings, dict):
        raise UserError(f"config {path}: holds no keys; see configs/snn_mlp_1.yaml")
    return settings


def _as_in_yaml(value):
    return value.item() if isinstance(value, numpy.generic) else os.fspath(value)


def _shown(path):
    """Return a path as people read it: relative to the current folder if it is inside."""
    path = Path(path).resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
