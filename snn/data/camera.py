"""A simulated event camera: a pixel sends an event when its log intensity has changed by a threshold since its last.

Model of Lichtsteiner, Posch, Delbruck 2008 (the DVS128), at discrete steps: at most one event per pixel and step.
"""

from typing import NamedTuple

import torch


class Events(NamedTuple):
    """Events of one scene in time order, `[E]` each."""

    time: torch.Tensor  # int64 microseconds from the start
    x: torch.Tensor
    y: torch.Tensor
    polarity: torch.Tensor  # 1: brighter, 0: darker


def film(frames, step, threshold, refractory, noise_rate, generator):
    """Film several scenes at once.

    Args:
        frames: iterable of intensities `[B, X, Y]` above 0, one for each step.
        step: microseconds between frames.
        threshold: change of log intensity that triggers an event.
        refractory: microseconds for which a pixel stays silent after an event.
        noise_rate: events per second that each pixel sends without a change.
        generator: draws the noise and spreads the events over their step.
    Returns a list of B Events.
    """
    frames = iter(frames)
    reference = next(frames).log()
    silent_until = torch.zeros(reference.shape, dtype=torch.int64)
    found, now = [], 0
    for frame in frames:
        level = frame.log()
        change = level - reference
        fired = (change.abs() >= threshold) & (silent_until <= now)
        reference = torch.where(fired, level, reference)
        silent_until[fired] = now + refractory
        scene, x, y = fired.nonzero(as_tuple=True)
        time = now + torch.randint(step, scene.shape, generator=generator)
        found.append(torch.stack([scene, time, x, y, (change[fired] > 0).long()]))
        now += step
    batch, size_x, size_y = reference.shape
    mean = torch.tensor(noise_rate * batch * size_x * size_y * now * 1e-6)
    count = (int(torch.poisson(mean, generator=generator)),)
    limits = (batch, max(now, 1), size_x, size_y, 2)
    found.append(torch.stack([torch.randint(limit, count, generator=generator) for limit in limits]))
    rows = torch.cat(found, 1)
    rows = rows[:, rows[1].argsort(stable=True)]
    return [Events(*rows[1:, rows[0] == scene]) for scene in range(batch)]
