"""All keys of a config as people read them: --show."""

from snn.base import yamls
from snn.base.keys import Key
from snn.config.settings import schema_of


def as_yaml(config, sources):
    """Return the whole config as YAML, with each key's help text and the source of its value."""
    lines = []
    _write(config, schema_of(config), sources, lines, "")
    return "\n".join(lines) + "\n"


def _write(config, schema, sources, lines, prefix):
    indent = "  " * prefix.count(".")
    for name, entry in schema.items():
        if isinstance(entry, Key):
            value = yamls.dump([config[name]], default_flow_style=True, width=10_000).strip()[1:-1]
            source = sources.get(prefix + name, "default")
            lines.append(f"{indent}{name}: {value}".ljust(48) + f"  # {entry.help} [{source}]")
        else:
            lines += ([] if prefix else [""]) + [f"{indent}{name}:"]
            _write(config[name], entry, sources, lines, f"{prefix}{name}.")
