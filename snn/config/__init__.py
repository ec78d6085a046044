"""Configs: what keys there are, what values they may have, and how the layers of settings come together."""

from snn.config.settings import (
    FREE_WHEN_RESUMED,
    MILESTONES,
    PLACES,
    changed,
    check,
    check_resumed,
    follow_checkpoint,
    get,
    read,
    resolve,
)

__all__ = [
    "FREE_WHEN_RESUMED", "MILESTONES", "PLACES", "changed", "check", "check_resumed", "follow_checkpoint", "get",
    "read", "resolve",
]  # fmt: skip
