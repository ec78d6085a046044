"""SIGINT and SIGTERM: a run finishes its batch, saves, and stops."""

import signal
from contextlib import contextmanager
from types import SimpleNamespace

from snn.base import ranks


class Stopped(Exception):
    """A signal ended a run after a complete batch; `saved` says whether it can resume from there."""

    def __init__(self, number, where, saved):
        self.number, self.where, self.saved = number, where, saved


@contextmanager
def noted():
    """In the block, SIGINT and SIGTERM only put their number in `.signal`; a second Ctrl-C interrupts at once."""
    seen = SimpleNamespace(signal=0)

    def note(number, _):
        if seen.signal and number == signal.SIGINT and ranks.ranks() == 1:  # torchrun repeats the signal
            raise KeyboardInterrupt
        seen.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
