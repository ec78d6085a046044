"""Configs: the keys, their allowed values, and the precedence of the sources of values."""

from snn.config.listing import as_yaml
from snn.config.settings import (
    changed,
    check,
    check_resumed,
    completed,
    defaults,
    follow_checkpoint,
    get,
    of_checkpoint,
    resolve,
    schema_of,
    shared,
    values,
)  # fmt: skip
from snn.config.sources import read

__all__ = [
    "as_yaml", "changed", "check", "check_resumed", "completed", "defaults", "follow_checkpoint", "get",
    "of_checkpoint", "read", "resolve", "schema_of", "shared", "values",
]  # fmt: skip
