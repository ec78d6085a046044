"""Config keys: each has a default, a check of its value, and a help text."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

REQUIRED = object()  # the default of a key that has none

# What a key affects, where that matters.
NETWORK = "network"  # part of the trained network: a checkpoint's value takes precedence
PLACE = "place"  # where a run executes and keeps its files: no effect on its numbers; may change on --resume
LENGTH = "length"  # how long a run lasts: may change on --resume


class Key(NamedTuple):
    """A key of a config. Keys are nested in dicts as in the YAML.

    `check` takes the value from YAML and returns the checked one, or raises ValueError that says what is allowed.
    """

    default: Any
    check: Callable
    help: str
    of: str = ""


# Kinds of values.
def boolean(value):
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def string(value):
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("a string")
    return value


def typed_path(value):
    """A path as typed; an empty one stays empty."""
    value = string(value)
    try:
        if b"\0" in os.fsencode(value):
            raise ValueError
    except ValueError:
        raise ValueError("a path") from None
    return os.path.expanduser(value)


def file_name(value):
    is_name = isinstance(value, str) and value and Path(value).name == value and value.isprintable()
    if not is_name or value.startswith("."):
        raise ValueError("a valid folder name")
    return value


def choice(*names):
    def check(value):
        if value not in names:
            raise ValueError(" or ".join(names))
        return value

    return check


def integer(at_least, below=math.inf):
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value < below:
            raise ValueError(f"an integer, at least {at_least}" + (f", below {below}" if below < math.inf else ""))
        return value

    return check


def number(allowed, test):
    def check(value):
        if isinstance(value, str):  # YAML reads 1e-4, without a point, as a string
            try:
                value = float(value)
            except ValueError:
                raise ValueError(allowed) from None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not test(value):
            raise ValueError(allowed)
        return value

    return check


def list_of(check_item, allowed, test=lambda values: True):
    def check(value):
        if not isinstance(value, (list, tuple)):
            raise ValueError(allowed)
        value = [check_item(item) for item in value]
        if not test(value):
            raise ValueError(allowed)
        return value

    return check


def mapping(value):
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("a mapping, such as {sigma: 0.5}")
    return value


finite = number("a number", lambda v: True)
positive = number("a number above 0", lambda v: v > 0)
not_negative = number("a number, at least 0", lambda v: v >= 0)
fraction = number("a number from 0 to 1", lambda v: 0 <= v <= 1)
count = integer(1)
size = integer(0)
