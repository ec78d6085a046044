"""Read YAML as people mean it: what is typed is taken, or refused in one line."""

import re

import yaml

from snn.base.errors import UserError

# The plain values that are not strings: YAML 1.2's. PyYAML's own, of YAML 1.1, reads 010 as 8, 1:30 as 90, `no` as
# false and 2026-11-25 as a date.
PATTERNS = {
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]{1,19}",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "null": r"~|null|Null|NULL|",
}


class _Loader(yaml.SafeLoader):
    """Takes no aliases, and mappings whose keys are different names."""

    yaml_implicit_resolvers = {}

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem=f"alias *{event.anchor} is not supported", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is not a name", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key} is there twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _float(text):
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Quotes strings that YAML 1.1 or `load` would read as something else."""


for _name, _pattern in PATTERNS.items():
    for _kind in _Loader, _Dumper:
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), None)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: _float(node.value.lower()))


def dump(value, **options):
    """Return nested dicts, lists, strings and numbers as a YAML text that `load` reads back; options of `yaml.dump`."""
    return yaml.dump(value, Dumper=_Dumper, **options)


def load(text, source):
    """Return what is in a YAML text, as nested dicts, lists, strings and numbers.

    Args:
        source: what the text is, for messages, such as "config my.yaml".
    Raises UserError, with the line where it is known, if it is no YAML, names a key twice, or has an alias.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line, problem = f", line {error.problem_mark.line + 1}", error.problem
    except Exception as error:  # tags such as !!int abc raise anything, deep nesting a RecursionError
        line, problem = "", f"{type(error).__name__}: {error}"
    raise UserError(f"{source}{line}: not YAML: {' '.join(problem.split())[:200]}")
