"""Long sequences in chunks of time: a backward that keeps what one chunk needs, not what all steps need."""

import math
from contextlib import nullcontext
from itertools import pairwise

import torch
from torch import nn
from torch.autograd import Function
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from snn.base import process
from snn.base.errors import UserValueError
from snn.kernels.products import matrix_products
from snn.layers.layer import check_goes_on, is_watched, takes_means
from snn.layers.parts import part_of_a_pass
from snn.layers.state import as_kind, map_tensors

AT_ONCE = 32  # chunks whose freed memory is handed back at once


def chunked(net, x, steps="auto", state=None, truncate=False):
    """Run a network over a sequence in chunks of time: `y, state = snn.chunked(net, x, 100)`, equal to `net(x)`.

    The forward keeps the states at the chunks' ends alone; the backward runs all chunks but the last again, with the
    dropout masks of their first run, and hands the gradients of a chunk's first states to the one before (Chen et al.
    2016). Outputs are those of `net(x, state)`, bit for bit without dropout. Gradients are the same up to rounding:
    those of weights are summed chunk by chunk, and b1's is summed in another form after the first chunk.

    Args:
        net: a network or a layer over time, `y, state = net(x, state)`.
        x: `[T, B, *features]`, or an object of your own that reads it: with `shape`, `device`, and `x[first:last]`, a
            tensor of these steps. It is read again in the backward, so that no more than a chunk is in memory.
        steps: of a chunk, > 0; "auto": about the square root of T, where chunks and states need the least memory.
        state: that the first chunk starts from.
        truncate: whether gradients stop where chunks end, which is another thing: truncated backpropagation through
            time (Williams and Peng 1990). What lies more than a chunk back is then not learned.
    Returns (y `[T, B, *]`, the last state), as `net` does. Raises ValueError for other `steps`, and where x has none,
    and for a network that does not return an output for each step, needs the whole sequence at once, or has BatchNorm
    in training.
    """
    length = x.shape[0]
    if steps == "auto":
        steps = max(1, math.isqrt(length))
    if not (type(steps) is int and steps > 0 and length):
        raise ValueError(f"{length} steps in chunks of {steps!r}: give a whole number above 0, or 'auto'")
    if length > steps and any(map(takes_means, net.modules())):
        raise UserValueError(
            "BatchNorm in training takes the mean of all steps, and a chunk has another: freeze it, or use no chunks"
        )
    ends, parts, whole, places = [*range(0, length, steps), length], [], None, None
    on_device = torch.empty(0, device=x.device)  # tells `checkpoint` whose random numbers to keep

    watched = tuple(filter(is_watched, net.modules()))
    # Each slice's backward would make zeros of the whole of x; that of all pieces writes each once.
    pieces = x.split(steps) if torch.is_tensor(x) and x.requires_grad else None

    def run(first, last, state, _):
        if first // steps % AT_ONCE == AT_ONCE - 1:
            process.hand_back_freed_memory()
        return net(pieces[first // steps] if pieces else x[first:last], state)

    def contexts():
        return nullcontext(), part_of_a_pass("again", watched)

    for first, last in pairwise(ends):
        with part_of_a_pass("later") if first else nullcontext():
            if torch.is_grad_enabled() and last < length:  # the backward begins with the last one, and needs it first
                y, state = checkpoint(run, first, last, state, on_device, use_reentrant=False, context_fn=contexts)
            else:
                y, state = run(first, last, state, None)
        if last < length:
            check_goes_on(net, state)
        if len(y) != last - first:
            raise ValueError(f"chunks need an output for each step; {last - first} steps gave {len(y)}")
        if whole is not None and (y.shape[1:], y.dtype) != (whole.shape[1:], whole.dtype):
            of_first, of_this = (f"{list(part.shape[1:])} in {part.dtype}" for part in (whole, y))
            raise ValueError(f"chunks need outputs alike; the first gave {of_first}, step {first} on {of_this}")
        if truncate:
            state = map_tensors(torch.Tensor.detach, state)
        if whole is None:
            whole = y.new_empty(length, *y.shape[1:])
            places = [map_tensors(torch.empty_like, state) for _ in ends[1:]]
        parts.append(_kept(y, whole[first:last].detach()))
        state = _kept(state, places.pop())
    return _Joined.apply(whole, *parts), state


def _kept(value, place):
    """Return a copy of nested tensors in those of `place`; a state that has grown stays where it is."""
    if isinstance(value, tuple) and isinstance(place, tuple) and len(value) == len(place):
        return as_kind(value, map(_kept, value, place))
    if not (torch.is_tensor(value) and torch.is_tensor(place)):
        return value
    return _Kept.apply(value, place) if (value.shape, value.dtype) == (place.shape, place.dtype) else value


class _Kept(Function):
    """A copy of a tensor in memory that was taken before: small new blocks would break up the large ones that are free.

    After each chunk its output and its states stay, and everything else is free for the next one.
    """

    @staticmethod
    def forward(ctx, value, place):
        ctx.mark_dirty(place)
        return place.copy_(value)

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class _Joined(Function):
    """Parts of a sequence as the whole whose memory they are in."""

    @staticmethod
    def forward(ctx, whole, *parts):
        ctx.lengths = [len(part) for part in parts]
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx, grad):
        return None, *grad.split(ctx.lengths)


class InChunks(nn.Module):
    """A network that runs `chunked`: `DistributedDataParallel` exchanges gradients once for each call of a module."""

    def __init__(self, net, steps, truncate):
        super().__init__()
        self.net, self.steps, self.truncate = net, steps, truncate

    def forward(self, x, state=None):
        return chunked(self.net, x, self.steps, state, self.truncate)


def in_chunks(net, hyperparameters):
    """Return a network that runs in the chunks that a config's `chunk` or `truncate` asks for; itself without them."""
    chunk, truncate = hyperparameters["chunk"], hyperparameters["truncate"]
    if not (chunk or truncate) or isinstance(net, (InChunks, DistributedDataParallel)):
        return net
    return InChunks(net, truncate or chunk, bool(truncate))


def as_configured(net, config, x, state=None):
    """Return `net(x, state)`, with the precision of products and the chunks that a config asks for."""
    with matrix_products(config["precision"], x.device):
        return in_chunks(net, config["hyperparameters"])(x, state)
