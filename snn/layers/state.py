"""States of layers: a tensor, or nested tuples of tensors; None where a layer has none or starts from zero."""

import torch

from snn.base.errors import UserValueError


def map_tensors(function, state, *others):
    """Apply `function` to every tensor of `state` and those at the same place in `others`; None stays None."""
    if state is None:
        return None
    if torch.is_tensor(state):
        return function(state, *others)
    if not isinstance(state, (tuple, list)):
        kind = type(state).__name__
        raise UserValueError(f"a layer's state holds a {kind}: it can be a tensor, a tuple of such, or None")
    return as_kind(state, (map_tensors(function, *parts) for parts in zip(state, *others, strict=True)))


def as_kind(state, parts):
    """Return the parts of a state as a tuple, or a NamedTuple if `state` is one."""
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


class Preserved:
    """The state that is carried from batch to batch, detached.

    A shorter batch takes the first rows of the state; the other rows wait for the next full batch. A batch longer than
    all before it takes rows that start from zero too.
    """

    def __init__(self):
        self.state = None

    def take(self, batch_size):
        """Return the state for a batch of `batch_size` samples, or None at the start."""

        def rows(kept):
            missing = max(0, batch_size - len(kept))
            return torch.cat([kept, kept.new_zeros(missing, *kept.shape[1:])]) if missing else kept[:batch_size]

        return map_tensors(rows, self.state)

    def keep(self, state):
        """Replace the rows that a batch took with the state it ended with."""
        state = map_tensors(torch.Tensor.detach, state)
        if self.state is None:
            self.state = state
        else:
            self.state = map_tensors(lambda new, kept: torch.cat([new, kept[len(new) :]]), state, self.state)


def preserved_state(config):
    """Return what carries the state from batch to batch; None if every batch starts from zero."""
    return Preserved() if config["states"] == "preserved" else None
