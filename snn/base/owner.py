"""One run at a time writes to a folder: its owner. The claim ends with the process, whatever ends it."""

import json
import os
import socket
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from snn.base.errors import UserError, not_written

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


@contextmanager
def owned(folder, advice):
    """Own a folder in the block, by a lock on the file `.<name>.owner` next to it.

    The system releases the lock when the process ends, also after kill -9. On a file system without locks the file
    itself counts: as long as its process lives on this machine, or, if it is of another machine, until it is deleted.

    Args:
        advice: for the message, what else to do.
    Raises UserError that names the other run if the folder has an owner, or if the file can't be written.
    """
    path = Path(folder).with_name(f".{Path(folder).name}.owner")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+")
    except OSError as error:
        raise not_written(path, error) from None
    with file:
        other = _read(file)
        locked = _lock(file)
        if locked is False or (locked is None and _lives(other)):
            who = f"process {other.get('pid')} on {other.get('host')}, since {other.get('since')}"
            without_locks = f", or delete {path} if that run has ended" if locked is None else ""
            raise UserError(f"{folder} belongs to a run that is at work ({who}): wait for it, {advice}{without_locks}")
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            file.seek(0)
            file.truncate()
            json.dump(mine | {"started": _started(os.getpid())}, file)
            file.flush()
        except OSError as error:
            raise not_written(path, error) from None
        try:
            yield
        finally:
            with suppress(OSError):  # empty stands for no owner; to delete it could take another run's claim
                file.seek(0)
                file.truncate()


def _lock(file):
    """Lock a file: True; False if another process has it; None if the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _read(file):
    """What an owner wrote; empty if there is none."""
    try:
        owner = json.loads(file.read(1000))
    except (ValueError, OSError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _lives(owner):
    """Whether an owner's process may be alive: it is on another machine, or is there and began at that time."""
    if not owner:
        return False
    return owner.get("host") != socket.gethostname() or _started(owner.get("pid")) == owner.get("started", 0)


def is_alive(pid):
    """Whether a process of this machine is there; True where that can't be seen."""
    if os.name == "posix":  # elsewhere, signal 0 ends a process
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # it is another user's
    return True


def _started(pid):
    """When a process of this machine began, in the system's clock ticks; None if it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError, ValueError):
        return None
