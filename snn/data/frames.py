"""Frames: a camera's events as sequences for the network."""

import torch


def bin_or(step, place, counts, length, shape):
    """Return events as frames: a pixel of a step is 1 if it had an event, however many.

    Args:
        step: `[E]` int32, the time step of each event, below `length`; recordings are concatenated.
        place: `[E]` int16, each event's element in the flattened `shape`.
        counts: `[B]` int64, events of each recording, at least 1.
        length: T.
        shape: of a frame, such as (2, 34, 34): polarity, x, y.
    Shape: frames (0 or 1), float32 `[T, B, *shape]`.
    """
    frames, index = _frames_and_index(step, place, counts, length, shape)
    return _as_sequence(frames.index_fill_(0, index, 1), length, shape)


def bin_max(step, place, counts, length, shape):
    """Return events as frames: a pixel's number of events over the largest of its step; arguments as in `bin_or`.

    Shape: frames (0 to 1), float32 `[T, B, *shape]`; a step without events is 0 everywhere.
    """
    frames, index = _frames_and_index(step, place, counts, length, shape)
    frames.index_add_(0, index, torch.ones((), device=frames.device).expand(len(index)))
    frames = frames.view(length, len(counts), torch.Size(shape).numel())
    frames /= frames.amax(2, keepdim=True).clamp_(min=1)
    return _as_sequence(frames, length, shape)


def _frames_and_index(step, place, counts, length, shape):
    """Return empty frames, flattened, and each event's element in them: channels last on CUDA, as convolutions are."""
    features, batch = torch.Size(shape).numel(), len(counts)
    frames = torch.zeros(length * batch * features, device=step.device)
    sample = torch.zeros(len(step), dtype=torch.int32, device=step.device)
    sample.index_fill_(0, counts.cumsum(0)[:-1], 1)  # sample[...] = 1 would wait for the device
    sample = sample.cumsum_(0)  # of each event; twice as fast as torch.repeat_interleave
    if step.is_cuda:
        pixels = features // shape[0]
        place = place % pixels * shape[0] + place // pixels
    return frames, step.long().mul_(batch).add_(sample).mul_(features).add_(place)


def _as_sequence(frames, length, shape):
    """Return flattened frames as `[T, B, *shape]`."""
    if frames.is_cuda:
        return frames.view(length, -1, *shape[1:], shape[0]).movedim(-1, 2)
    return frames.view(length, -1, *shape)
