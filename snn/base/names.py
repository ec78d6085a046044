"""Look up classes by name, so that a config can choose a class from the user's own module."""

import importlib
import traceback
from pathlib import Path


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
    *module, class_name = name.split(".") if isinstance(name, str) else [""]
    if not module or not all(part.isidentifier() for part in (*module, class_name)):
        raise ValueError(allowed)
    module = ".".join(module)
    try:
        found = getattr(importlib.import_module(module), class_name, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # somebody else's module raises anything, and may exit
        raise ValueError(f"{allowed} ({_failure(module, error)})") from None
    if found is None:
        raise ValueError(f"{allowed} ({module} has no {class_name})")
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{allowed} ({name} is no subclass of {base.__name__})")
    return found


def _failure(module, error):
    """Return what importing a module raised, and its place: on one line."""
    said = " ".join(str(error).split())[:150]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in frame.filename]
    if not frames and isinstance(error, ImportError):
        return f"{said}; the script's folder and PYTHONPATH are searched"
    where = f" in line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
    return f"module {module} raises {type(error).__name__}{where}: {said}"
