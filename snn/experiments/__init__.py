"""The experiments: `snn.experiments.snn_mlp_1` is snn_mlp_1.py, here when installed, beside the package in a clone."""

from snn.base.files import shipped

_CONFIGS = shipped("configs")
__path__ = [str(_CONFIGS.parent)]
NAMES = sorted(file.stem for file in _CONFIGS.glob("*.yaml"))
