"""Read YAML as people mean it: what is typed is taken, or refused in one line."""

import re

import yaml

from snn.base.errors import UserError


class _SafeLoader(yaml.SafeLoader):
    """YAML 1.2's numbers, booleans and null; every other plain value is a string. No aliases, no key twice.

    YAML 1.1, PyYAML's own, reads 010 as 8, 1:30 as 90, `no` as false and 2026-11-25 as a date.
    """

    yaml_implicit_resolvers = {}

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(None, None, f"alias *{event.anchor} is not supported", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(None, None, f"key {key!r} is not a name", key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"key {key} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node):
        return int(node.value)

    def construct_number(self, node):
        special = {".inf": "inf", "-.inf": "-inf", "+.inf": "inf", ".nan": "nan"}
        return float(special.get(node.value.lower(), node.value))


for tag, pattern, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]{1,19}", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):
    _SafeLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), [*first, ""] if tag == "null" else list(first)
    )
_SafeLoader.add_constructor("tag:yaml.org,2002:int", _SafeLoader.construct_integer)
_SafeLoader.add_constructor("tag:yaml.org,2002:float", _SafeLoader.construct_number)


def load(text, source):
    """Return what is in a YAML text, as nested dicts, lists, strings and numbers.

    Args:
        source: what the text is, for messages, such as "config my.yaml".
    Raises UserError with the line if it is no YAML, names a key twice, or has an alias.
    """
    try:
        return yaml.load(text, _SafeLoader)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    except Exception as error:  # tags such as !!int abc raise anything, deep nesting a RecursionError
        mark, problem = None, f"{type(error).__name__}: {error}"
    where = f", line {mark.line + 1}" if mark else ""
    raise UserError(f"{source}{where}: not YAML: {' '.join(problem.split())[:200]}")
