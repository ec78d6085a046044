"""Random numbers that leave those of others alone."""

from contextlib import contextmanager

import torch


@contextmanager
def drawn_apart(device, seed=None):
    """In the block, draw from the generators of a device and the CPU as after this seed; they are then as before it."""
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
            if on_cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
        yield
