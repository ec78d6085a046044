"""Timing steps in turn, so that a busy moment of the machine meets all of them."""

import time

import torch


def time_in_turn(steps, repeat, device):
    """Return a list of seconds for each step, timed `repeat` times, interleaved, after a warm-up."""
    for step in steps:
        step()
    seconds = [[] for _ in steps]
    for _ in range(repeat):
        for step, taken in zip(steps, seconds):
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            taken.append(time.perf_counter() - start)
    return seconds


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()
