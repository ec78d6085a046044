"""SIGINT, SIGTERM and SIGHUP, of a terminal that closes: a run finishes its batch, saves, and stops."""

import signal
import threading
from contextlib import contextmanager
from types import SimpleNamespace


class Stopped(Exception):
    """A signal ended a run after a complete batch; `saved` says whether it can resume from there."""

    def __init__(self, number, where, saved):
        self.number, self.where, self.saved = number, where, saved


@contextmanager
def noted(repeated=False):
    """In the block, these signals only put their number in `.signal`; a second Ctrl-C interrupts at once.

    With `repeated` it does not: torchrun sends each signal twice.

    A SIGHUP that is ignored, as nohup has it, stays ignored. Only the first thread gets signals: in any other, such as
    that of a search tool's trial, none is noted.
    """
    seen = SimpleNamespace(signal=0)

    def note(number, _):
        if seen.signal and number == signal.SIGINT and not repeated:
            raise KeyboardInterrupt
        seen.signal = number

    numbers = set()
    if threading.current_thread() is threading.main_thread():
        numbers = {signal.SIGINT, signal.SIGTERM}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.add(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
