"""Reading files in one way, and writing files that are either complete or absent."""

import csv
import io
import os
import re
import shutil
import socket
import stat
import threading
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import numpy as np

from snn.base.errors import UserError, not_written
from snn.base.keys import typed_path

LARGEST = 1 << 28  # bytes of a file or an archive's entry that is read whole: ten times the largest recording


@contextmanager
def reading(message, file=None):
    """Turn whatever a library raises on a file that it can't read into a UserError.

    Libraries raise more on bad bytes than they document. Keep the block small: a fault of ours in it would be blamed on
    the file.

    Args:
        message: the error's, with {reason} for what the library says.
        file: that the block reads. It must be an ordinary one: opening a pipe could wait for ever.
    """
    try:
        if file is not None and not stat.S_ISREG(os.stat(file).st_mode):
            raise ValueError("it is not an ordinary file")
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(message.replace("{reason}", _reason(error))) from None


def _reason(error):
    """Return why a file can't be read, on one line; some libraries' errors say nothing by themselves."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not a text file (UTF-8)"
    said = f"no {error}" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
    return " ".join(said.split())[:150] or type(error).__name__


def check_size(size, at_most=LARGEST):
    """Raise ValueError if a file has more bytes than are read; look before reading, also at an archive's entry."""
    if size > at_most:
        raise ValueError(f"it has {size:,} bytes, and at most {at_most:,} are read")


def read_bytes(path, at_most=LARGEST):
    """Return a file's bytes; raise UserError if it can't be read."""
    with reading(f"{path} can't be read: {{reason}}", path):
        check_size(os.path.getsize(path), at_most)
        return Path(path).read_bytes()


def read_array(path):
    """Return the array in a .npy file; raise UserError if it is none, or holds Python's objects."""
    with reading(f"{path} is not a .npy file of numbers ({{reason}})"):
        return np.lib.format.read_array(io.BytesIO(read_bytes(path)), allow_pickle=False)


def read_entry(archive, name, named_by=""):
    """Return the array of this name in an .npz, a `zipfile.ZipFile`.

    Raises ValueError if there is none, which says what such names are `named_by`, and if it is too large.
    """
    entry = f"{name}.npy"
    if entry not in archive.namelist():
        there = ", ".join(sorted(other.removesuffix(".npy") for other in archive.namelist()))
        raise ValueError(f"it has no array {name!r:.40}{named_by and f': {named_by}'}; it has {there}")
    check_size(archive.getinfo(entry).file_size)
    return np.lib.format.read_array(io.BytesIO(archive.read(entry)), allow_pickle=False)


def check_replaces(out, files):
    """Return whether there is a file at `out`, which is then to be replaced. Raises UserError if it is one of `files`.

    Those are the paths of what was read, as a person typed them.
    """
    if not os.path.exists(out):
        return False
    if any(os.path.samefile(path, out) for path in map(user_path, files) if os.path.exists(path)):
        raise UserError(f"{out} is a file that was read, and would be lost: name another one to write")
    return True


def user_path(path):
    """Return a path that a person typed, as `typed_path` takes it: ~ is the home folder. Raises UserError."""
    try:
        return Path(typed_path(os.fsdecode(path)))
    except ValueError as allowed:
        raise UserError(f"{path} is not {allowed}") from None


def checked_entry(archive, name):
    """Return the name of an archive's entry; raise UserError if it points outside the folder it is unpacked in."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise UserError(f"{archive}: its entry {name} points outside its folder: get the archive from its page again")
    return name


@contextmanager
def unfinished(path):
    """Yield the path of a file or folder to make next to `path`; what is there in the end is deleted.

    What killed processes left there is deleted first. Raises UserError for an OSError in the block.
    """
    path = Path(path)
    if not path.name:
        raise UserError(f"{path} is a folder: name a file in it")
    number = f"{os.getpid()}.{threading.get_native_id()}"
    beside = path.with_name(f".{path.name}.unfinished-{socket.gethostname()}-{number}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent)
        _remove(beside)  # of an earlier process with these numbers
        try:
            yield beside
        finally:
            _remove(beside)
    except OSError as error:
        raise not_written(path, error) from None


@contextmanager
def written_beside(path, keep=None):
    """Yield a temporary file, to write bytes to, that is then flushed to disk and renamed to `path`.

    If anything fails, what was at `path` stays untouched; on success a file that was there moves to `keep`, if given.
    One of the two is whole at any time. Raises UserError if it can't be written.
    """
    with unfinished(path) as beside:
        _check_ordinary(path)  # a device would be replaced
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not keep or not os.path.exists(path):
            os.replace(beside, path)
            return
        with unfinished(keep) as before:
            try:
                os.link(path, before)
            except OSError:  # not on every file system
                shutil.copyfile(path, before)
            os.replace(beside, path)
            os.replace(before, keep)


@contextmanager
def made_beside(path):
    """Yield a temporary folder, to fill, that is then renamed to `path`, as `written_beside` does with a file.

    A folder that another process made there meanwhile stays: it is complete too.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    with unfinished(path) as beside:
        beside.mkdir()
        yield beside
        try:
            os.rename(beside, path)
        except OSError:
            if not os.path.isdir(path) or not os.listdir(path):
                raise


def write_text(path, text):
    with written_beside(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_csv(path, rows):
    """Write rows, dicts, to a CSV file whose header are their keys; a cell that a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(key for row in rows for key in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_picture(path, figure):
    """Write a matplotlib figure to a PNG file."""
    with written_beside(path) as file:
        figure.savefig(file, format="png", dpi=100)


def check_writable(path):
    """Raise UserError if a file's folder is there, and the file can't be written in it, or is no ordinary one."""
    if os.path.lexists(Path(path).parent):
        with unfinished(path) as beside:
            beside.touch()
    _check_ordinary(path)


def _check_ordinary(path):
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is not an ordinary file: name another")


def remove_unfinished(folder):
    """Delete the temporary files and folders that killed processes of this machine left in a folder."""
    for path in Path(folder).glob(".*.unfinished-*"):
        match = re.fullmatch(r"\..+\.unfinished-(.+)-(\d{1,9})(\.\d+)?", path.name)
        if match and match[1] == socket.gethostname() and _has_ended(int(match[2])):
            _remove(path)


def _has_ended(process):
    """Whether no process of this machine has this number."""
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is another user's
    return False


def _remove(path):
    with suppress(OSError):  # what can't be deleted does no harm
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def shipped(name):
    """Return a folder that ships, such as "configs": beside the package in a clone, in snn.experiments if installed."""
    package = Path(__file__).parents[1]
    installed = package / "experiments" / name
    return installed if installed.is_dir() else package.parent / name
