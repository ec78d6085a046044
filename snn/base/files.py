"""Files that are either complete or absent."""

import os
import re
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from snn.base.errors import UserError


@contextmanager
def written_beside(path, keep=None):
    """Yield a temporary binary file next to `path`, to write and read; flush it to disk, then rename it to `path`.

    If anything fails, the file that was at `path` stays untouched; on success it moves to `keep`, if given. Raises
    UserError if the file can't be written.
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
    """Delete the temporary files that killed processes left in a folder."""
    for path in Path(folder).glob(".*"):
        if re.fullmatch(r"\.(last|best)\.pt\.\d+", path.name) and path.is_file():
            with suppress(OSError):  # it may stay: it does no harm
                path.unlink()


def shipped(name):
    """Return a folder that ships, such as "configs": next to the package in a clone, inside it when installed."""
    package = Path(__file__).parents[1]
    return package / name if (package / name).is_dir() else package.parent / name


def read_bytes(path):
    """Return a file's bytes; raise UserError if it can't be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None


def checked_entry(archive, name):
    """Return the name of an archive's entry; raise UserError if it points outside the folder it is unpacked in."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise UserError(f"{archive}: its entry {name} points outside its folder: get the archive from its page again")
    return name


@contextmanager
def folder_built_beside(path):
    """Yield a temporary folder next to `path` to fill; on success rename it to `path`.

    Raises UserError if it can't be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
            folder = Path(beside, path.name)
            folder.mkdir()
            yield folder
            try:
                os.rename(folder, path)
            except OSError:
                if not path.is_dir():  # else another process was faster, and its folder is whole too
                    raise
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from None
