"""Which part of a sequence layers run now. What runs a sequence in parts says so; layers and hooks ask.

- "": all of the sequence, or its first part.
- "later": a part behind those that ran before, in `chunked`, or step by step: its record goes behind theirs.
- "again": a part that ran before, for its backward in `chunked`, or to record its states: no hook of ours sees it.
"""

import threading


class _Now(threading.local):
    """What `part_of_a_pass` sets. On the instance: torch.compile guards what is in its dict."""

    def __init__(self):
        self.part, self.watched = "", ()


now = _Now()


class part_of_a_pass:
    """In the block, layers run a part of a sequence: one "later" than the first, or one "again".

    `watched` are the layers that were when it ran first, since others run in one loop with those behind them. It is of
    the thread, and may be entered again: each backward of an output does.
    """

    def __init__(self, which, watched=()):
        self.now, self.before = (which, watched), []

    def __enter__(self):
        self.before.append((now.part, now.watched))
        now.part, now.watched = self.now

    def __exit__(self, *_):
        now.part, now.watched = self.before.pop()


def is_later_part():
    """Whether layers run a later part of the sequence whose earlier ones they ran before."""
    return now.part == "later"


def is_part():
    """Whether layers run a later part of a sequence, or any part again."""
    return bool(now.part)
