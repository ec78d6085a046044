"""The experiments: `snn.experiments.snn_mlp_1` is snn_mlp_1.py, here when installed, beside the package in a clone."""

import importlib

from snn.base.files import shipped

_CONFIGS = shipped("configs")
__path__ = [str(_CONFIGS.parent)]
NAMES = sorted(file.stem for file in _CONFIGS.glob("*.yaml"))


def config_file(name):
    """Return the path of an experiment's YAML file, whether or not there is one."""
    return _CONFIGS / f"{name}.yaml"


def find(name):
    """Return the script of an experiment that ships, as a module with `network`; None if there is none of this name."""
    return importlib.import_module(f"{__name__}.{name}") if name in NAMES else None  # no other is imported
