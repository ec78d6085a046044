"""Configs: the keys, their allowed values, and the precedence of the sources of values."""

from snn.config.listing import as_yaml
from snn.config.saved import changed, check_resumed, completed, defaults, follow_checkpoint, of_checkpoint, values
from snn.config.settings import check, get, note_unread, resolve, schema_of, shared
from snn.config.sources import read

__all__ = [
    "as_yaml", "changed", "check", "check_resumed", "completed", "defaults", "follow_checkpoint", "get",
    "note_unread", "of_checkpoint", "read", "resolve", "schema_of", "shared", "values",
]  # fmt: skip
