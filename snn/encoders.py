"""From an image to a spike train: encoders over time."""

import torch


def copy(images, length):
    """The real value of every pixel at every step.

    Shape: images `[B, *features]` -> `[T, B, *features]`, a view that repeats the images without copying them.
    """
    return images.expand(length, *images.shape)


def poisson(images, length, max_rate=1.0, generator=None):
    """At every step a spike with probability pixel * max_rate (Bernoulli), drawn anew for each step.

    Shape: images `[B, *features]`, values 0 to 1 -> spikes (0 or 1) `[T, B, *features]` of the same dtype.
    """
    uniform = torch.rand(length, *images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return torch.lt(uniform, images * max_rate, out=uniform)
