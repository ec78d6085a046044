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
    if isinstance(name, str) and name in built_in:
        return built_in[name]
    allowed = f"{' or '.join(built_in)}, or module.Class: your own subclass of {base.__name__}"
    module, _, class_name = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if not module:
        raise ValueError(allowed)
    try:
        found = getattr(importlib.import_module(module), class_name, None)
    except ImportError as error:
        looked = "the script's folder and PYTHONPATH are searched"
        raise ValueError(f"{allowed} ({error}; {looked})") from None
    if found is None:
        raise ValueError(f"{allowed} ({module} has no {class_name})")
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{allowed} ({name} is no subclass of {base.__name__})")
    return found
