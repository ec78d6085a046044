"""Classes by name, so that a config can choose one that somebody else wrote."""

import importlib


def find_class(name, base, built_in):
    """The class that a config names.

    Args:
        name: a key of `built_in`, or "module.Class" of a module that can be imported.
        base: what it has to be a subclass of.
        built_in: classes by their short names.
    Raises ValueError that says what is allowed.
    """
    if name in built_in:
        return built_in[name]
    allowed = f"{' or '.join(built_in)}, or module.Class: a subclass of {base.__name__} in a file of your own"
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
