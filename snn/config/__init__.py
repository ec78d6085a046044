"""Configs: what keys there are, what values they may have, and how the sources of settings come together."""

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
