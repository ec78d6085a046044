"""What a run sets for its whole process: how it allocates memory, and how it computes with tiny numbers."""

import ctypes

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h
_C = ctypes.CDLL(None)


def tune():
    """Set what makes long training fast. Call it before the first product, in the thread that trains."""
    _flush_subnormals()
    _keep_freed_memory()


def _flush_subnormals():
    """Have this thread and torch's workers that compute for it take numbers below 1.2e-38 as 0.

    An optimizer's moments decay into such numbers where gradients stay 0, as at pixels that are seldom lit; Intel's
    processors compute with them a hundred times slower than with others. Workers inherit the setting from the thread
    that starts them; those that run already, as in a notebook, are told one by one.
    """
    torch.set_flush_denormal(True)
    on_all_workers = getattr(_C, "GOMP_parallel", None)
    if on_all_workers:
        tell = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: torch.set_flush_denormal(True))
        on_all_workers(tell, None, torch.get_num_threads(), 0)


def _keep_freed_memory():
    """Have the C library keep freed memory for the next step instead of handing it back to the system (glibc only).

    Every training step needs the same large blocks again. Fresh ones are zeroed page by page on first touch, which
    takes a third of a CNN's training step on two cores.
    """
    mallopt = getattr(_C, "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def hand_back_freed_memory():
    """Hand free memory of the C library, in blocks too small for what comes next, back to the system (glibc only)."""
    trim = getattr(_C, "malloc_trim", None)
    if trim:
        trim(0)
