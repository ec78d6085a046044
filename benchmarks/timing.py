"""Timing steps in turn, so that a busy moment of the machine meets all of them."""

import argparse
import time

import torch

from snn.base import process


def arguments(description, repeat):
    """Return the command line of a benchmark on the CPU, with `threads` and `repeat`; set torch up for it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: as torch has")
    parser.add_argument("--repeat", type=int, default=repeat, help=f"rounds (default {repeat})")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    process.tune()
    return args


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
