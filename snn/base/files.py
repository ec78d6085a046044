"""Files that are whole or not there."""

import os
import re
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from snn.base.errors import UserError


@contextmanager
def written_beside(path, keep=None):
    """Open a new file for bytes beside `path`, to write and read; once it is whole and on the disk rename it to `path`.

    Whatever happens on the way, what was at `path` before stays as it was; once the new one is whole, it is moved to
    `keep`, if given. Raises UserError if it can't be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(beside, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if keep and path.exists():
                os.replace(path, keep)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from None


def remove_unfinished(folder):
    """Delete what processes that were killed while they wrote to a folder left beside the whole files."""
    for path in Path(folder).glob(".*"):
        if re.fullmatch(r"\..+\.\d+", path.name) and path.is_file():
            with suppress(OSError):  # then it stays, and does no harm
                path.unlink()


def shipped(name):
    """A folder that ships, such as "configs": beside the package in a clone, inside it if installed."""
    package = Path(__file__).parents[1]
    return package / name if (package / name).is_dir() else package.parent / name


def read_bytes(path):
    """What is in a file; raises UserError if it can't be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None


def checked_entry(archive, name):
    """The name of an archive's entry as it is; raises UserError if it points out of the folder it is unpacked in."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise UserError(f"{archive}: its entry {name} points outside its folder: get the archive from its page again")
    return name


@contextmanager
def folder_built_beside(path):
    """Make a new folder beside `path` to put files into; rename it to `path` once it is whole.

    Raises UserError if it can't be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
            folder = Path(beside, path.name)
            folder.mkdir()
            yield folder
            os.rename(folder, path)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from None
