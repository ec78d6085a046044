"""Configs: the keys, their allowed values, and the precedence of the sources of values."""

from snn.config.settings import (
    MILESTONES,
    as_yaml,
    changed,
    check,
    check_resumed,
    completed,
    follow_checkpoint,
    get,
    read,
    resolve,
    schema_of,
)  # fmt: skip

__all__ = [
    "MILESTONES", "as_yaml", "changed", "check", "check_resumed", "completed", "follow_checkpoint", "get", "read",
    "resolve", "schema_of",
]  # fmt: skip
