"""Look up classes by name, so that a config can choose a class from the user's own module."""

import importlib


def find_class(name, base, built_in):
    """Return the class that a config names.

    Args:
        name: a key of `built_in`, or "module.Class" of a module that can be imported.
        base: the class that it must be a subclass of.
        built_in: classes by their short names.
    Raises ValueError that says what is allowed.
    """
    if name in built_in:
        return built_in[name]
    allowed = f"{' or '.join(built_in)}, or module.Class: your own subclass of {base.__name__}"
    module, _, class_name = str(name).rpartition(".")
    if not module:
        raise ValueError(allowed)
    try:
        found = getattr(importlib.import_module(module), class_name, None)
    except ImportError as error:
        raise ValueError(f"{allowed} ({error})") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{allowed} ({module} has no such class)")
    return found
