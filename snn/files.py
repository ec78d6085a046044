"""Files that are whole or not there."""

import os
from contextlib import contextmanager
from pathlib import Path

from snn.errors import UserError


@contextmanager
def written_beside(path):
    """Open a new file for bytes beside `path`; rename it to `path` once it is whole and on the disk.

    Whatever happens on the way, what was at `path` before stays as it was. Raises UserError if it can't be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(beside, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}") from None
