"""Configs: the keys, their allowed values, and the precedence of the sources of values."""

from snn.config.listing import as_yaml
from snn.config.settings import (
    changed,
    check_resumed,
    completed,
    follow_checkpoint,
    get,
    of_checkpoint,
    resolve,
    schema_of,
    shared,
)  # fmt: skip
from snn.config.sources import read

__all__ = [
    "as_yaml", "changed", "check_resumed", "completed", "follow_checkpoint", "get", "of_checkpoint", "read",
    "resolve", "schema_of", "shared",
]  # fmt: skip
