"""Random numbers that leave those of others alone."""

from contextlib import contextmanager

import torch


def seed(device, number):
    """Seed the generators of the CPU and of a device; not of other devices, as torch.manual_seed does."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)


@contextmanager
def drawn_apart(device, number=None):
    """In the block, draw from the generators of a device and the CPU as after this seed; they are then as before it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if number is not None:
            seed(device, number)
        yield
