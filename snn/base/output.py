"""Standard output and errors, which may go away: a closed pipe or terminal, a log on a full disk; or stay quiet."""

import os
import sys
from contextlib import contextmanager, suppress
from contextvars import ContextVar

# Of each thread: 0 if all is printed, 1 if `say` prints nothing, 2 if `note` does not either.
_QUIET = ContextVar("quiet", default=0)


class _Lasting:
    """A stream whose writes never fail: once the real one does, `lost` says why, and the rest goes nowhere."""

    def __init__(self, stream):
        self.stream = stream or open(os.devnull, "w")
        self.lost = None if stream else "it is closed"

    def write(self, text):
        try:
            return self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding
            return self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:
            self._give_up(error)
        return len(text)

    def flush(self):
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error):
        """Send the stream to nowhere; Python flushes it once more when it ends."""
        self.lost = getattr(error, "strerror", None) or error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
        self.stream = open(os.devnull, "w")

    def __getattr__(self, name):
        return getattr(self.stream, name)


@contextmanager
def lasting():
    """Print in the block without ever failing: output that is gone ends no run, but is noted in the yielded `lost`.

    Of blocks in several threads, the first one sets the streams for all, and sets them back when it ends.
    """
    before = sys.stdout, sys.stderr
    if not isinstance(sys.stdout, _Lasting):
        sys.stdout, sys.stderr = map(_Lasting, before)
    output, errors = sys.stdout, sys.stderr
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        if output is not before[0]:
            sys.stdout, sys.stderr = before


def say(text):
    """Print how a run gets on, at once, unless it is a quiet one."""
    if not is_quiet():
        print(text, flush=True)


def note(message):
    """Print a line that the user should know of, on standard error, also in a quiet run."""
    if _QUIET.get() < 2:
        print(f"note: {message}", file=sys.stderr)


def is_quiet():
    return _QUIET.get() > 0


@contextmanager
def quiet(notes=True):
    """Let `say` print nothing in the block, in this thread; nor `note`, unless `notes`."""
    token = _QUIET.set(1 if notes else 2)
    try:
        yield
    finally:
        _QUIET.reset(token)
