"""One run at a time writes to a folder: its owner. The claim ends with the process, whatever ends it."""

import fcntl
import os
import socket
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from snn.base.errors import UserError, not_written
from snn.base.output import note


@contextmanager
def owned(folder, advice):
    """Own a folder in the block, by a lock on the file `.<name>.owner` next to it.

    The system releases the lock when the process ends, also after kill -9; what the file says is for messages alone. A
    note says where a file system has no locks, so that nothing keeps a second run from the folder.

    Args:
        advice: for the message, what else to do.
    Raises UserError that names the other run if the folder has an owner, or if the file can't be written.
    """
    path = Path(folder).with_name(f".{Path(folder).name}.owner")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab+", buffering=0)
    except OSError as error:
        raise not_written(path, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(200).decode(errors="replace")
            raise UserError(f"{folder} belongs to a run that is at work ({owner}): wait for it, {advice}") from None
        except OSError as error:
            note(f"{path} can't be locked ({error.strerror}): start no second run of this name until this one ends")
        owner = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        try:
            file.truncate(0)
            file.write(owner.encode())
        except OSError as error:
            raise not_written(path, error) from None
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)
