"""Config keys: each has a default, a check of its value, and a help text."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

REQUIRED = object()  # the default of a key that has none
LARGEST_NUMBER = 3.4e38  # that float32 holds: networks compute in it
MOST_VALUES = 1_000_000  # of a config, or a history
LONGEST_NAME, LONGEST_PATH = 255, 1023  # bytes that every system takes

# What a key affects, where that matters.
NETWORK = "network"  # part of the trained network: a checkpoint's value takes precedence
PLACE = "place"  # where a run executes and keeps its files, and finds its samples: may change on --resume
LENGTH = "length"  # how long a run lasts: may change on --resume


class Key(NamedTuple):
    """A key of a config. Keys are nested in dicts as in the YAML.

    `check` takes the value from YAML and returns the checked one, or raises ValueError that says what is allowed.
    `affects` is NETWORK, PLACE, LENGTH, or empty. `unread` maps another key, such as `hyperparameters.synapse_type`, to
    those of its values with which nothing reads this one.
    """

    default: Any
    check: Callable
    help: str
    affects: str = ""
    unread: Mapping[str, Sequence] = MappingProxyType({})


# Kinds of values.
def boolean(value):
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def string(value):
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("a string (a number needs quotes)")
    return value


def typed_path(value):
    """A path as typed; an empty one stays empty."""
    try:
        typed = os.fsencode(string(value))
    except ValueError:  # a string that no bytes stand for
        raise ValueError("a path") from None
    if b"\0" in typed or max(map(len, typed.split(b"/"))) > LONGEST_NAME or len(typed) > LONGEST_PATH:
        raise ValueError(f"a path of up to {LONGEST_PATH} bytes, {LONGEST_NAME} for each name in it")
    return os.path.expanduser(string(value))


def folder_path(value):
    """A path as typed, of a folder: an empty one would be the current folder, which nobody named."""
    if not string(value):
        raise ValueError("a folder; . is the current one")
    return typed_path(value)


def file_name(value):
    """A name of a file or folder of ours: printable, and neither hidden nor like an option."""
    is_name = isinstance(value, str) and value and Path(value).name == value and value.isprintable()
    if not is_name or value.startswith((".", "-")) or len(value.encode()) > LONGEST_NAME:
        raise ValueError("a valid folder name (a number needs quotes)")
    return value


def plain(value, depth=10, left=None):
    """What YAML holds: strings, booleans, null, numbers of 64 bits, and lists and mappings of them, not too deep.

    NumPy's numbers and strings that are Python's too become Python's, as a checkpoint holds no others.
    `left` counts down how many more values there may be: a file can hold one list in many places.
    """
    left = [MOST_VALUES] if left is None else left
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"at most {MOST_VALUES:,} values")
    if isinstance(value, dict) and depth and all(isinstance(key, str) for key in value):
        return {key: plain(item, depth - 1, left) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and depth:
        return [plain(item, depth - 1, left) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63 or not isinstance(value, (str, int, float, type(None))):
        raise ValueError("strings, numbers, and lists and mappings of them")
    return next((kind(value) for kind in (str, float) if isinstance(value, kind)), value)


def choice(*names):
    def check(value):
        if value not in names:
            raise ValueError(" or ".join(names))
        return value

    return check


def integer(at_least, below=2**31):
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value < below:
            raise ValueError(f"an integer, at least {at_least}, below {below}")
        return value

    return check


def number(allowed, test):
    def check(value):
        if isinstance(value, str):  # quoted, or a cell of a table
            try:
                value = float(value)
            except ValueError:
                raise ValueError(allowed) from None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not abs(value) <= LARGEST_NUMBER or not test(value):
            raise ValueError(allowed)
        return value if abs(value) < 2**63 else float(value)  # as `plain` takes it

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


def names(value):
    """A list of names; a text holds them between commas."""
    listed = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value or []
    are_names = isinstance(listed, (list, tuple)) and {*map(type, listed)} <= {str, int} and not isinstance(value, bool)
    found = [name for name in (str(item).strip() for item in listed) if name] if are_names else []
    if not are_names or value and not found:
        raise ValueError("names, such as 0,1 or [0, 'Linear 1', '2.0'] (a name with a dot needs quotes)")
    return found


def mapping(value):
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("a mapping, such as {sigma: 0.5}")
    return value


def checked(name, check, value):
    """Return a checked value; raise ValueError that also says what it is."""
    try:
        return check(value)
    except ValueError as allowed:
        raise ValueError(f"{name} is {str(value)[:50]}, not {allowed}") from None


finite = number("a number", lambda v: True)
positive = number("a number above 0", lambda v: v > 0)
not_negative = number("a number, at least 0", lambda v: v >= 0)
fraction = number("a number from 0 to 1", lambda v: 0 <= v <= 1)
count = integer(1)
size = integer(0)
