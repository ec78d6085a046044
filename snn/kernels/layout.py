"""How tensors of any layout enter the compiled loops, and how their results come back."""

import math

import torch


class Layout:
    """The memory layout of a sequence `[T, B, *features]`, with conversions to `[T, B, N]` and back.

    `dtype` is that of what the layer returns; bfloat16 only if `bf16`.
    """

    def __init__(self, loops, x, bf16=True):
        self.loops, self.shape, self.device, self.bf16 = loops, x.shape, x.device, bf16
        self.dtype = torch.bfloat16 if self.bf16 and _autocast_to_bf16(x.device.type) else torch.float32
        self.order = sorted(range(2, x.dim()), key=lambda dim: -x.stride(dim))
        self.in_order = self.order == list(range(2, x.dim()))
        self.flat_shape = (*x.shape[:2], math.prod(x.shape[2:]))

    def new_sequence(self):
        """Return an empty sequence in this layout, and the same memory as `[T, B, N]`.

        To autograd neither is a view of the other. Who saves the second for a backward would else hold the first, which
        holds the graph that saves it, for ever.
        """
        if self.in_order:
            sequence = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        else:
            strides = self.unflatten(torch.empty(self.flat_shape, device="meta")).stride()
            sequence = torch.empty_strided(self.shape, strides, dtype=self.dtype, device=self.device)
        return sequence, self._flat(sequence).detach()

    def new_gradient(self, dtype):
        """Return an empty `[T, B, N]` for the gradient of an input of this dtype."""
        return torch.empty(self.flat_shape, dtype=dtype, device=self.device)

    def flatten(self, sequence):
        """Return a sequence as `[T, B, N]`, or as `[1, B, N]` if it repeats one step; None means zeros."""
        if sequence is None:
            sequence = torch.zeros((), dtype=torch.float32, device=self.device).expand(self.shape)
        if sequence.stride(0) == 0:
            sequence = sequence[:1]
        return self._flat(sequence if self.bf16 and sequence.dtype == torch.bfloat16 else sequence.float())

    def flatten_states(self, *states):
        """Return states `[B, *features]` as `[len(states), B, N]`; if all are None, the loops' `zero_states`."""
        if all(state is None for state in states):
            return self.loops.zero_states(len(states), self.flat_shape[2])
        zeros = torch.zeros((), dtype=torch.float32, device=self.device)
        return self._flat(torch.stack([(zeros if s is None else s.float()).expand(self.shape[1:]) for s in states]))

    def flatten_coefficients(self, *coefficients):
        """Return coefficients `[*features]` as `[len(coefficients), N]`."""
        return self._flat(torch.stack([c.float() for c in coefficients])[None])[0]

    def bias(self, bias):
        """Return what a neuron's loop takes of a bias `[*features]` or None: `[N]`, or nothing."""
        return () if bias is None else (self._flat(bias.float()[None, None])[0, 0],)

    def new_bias_gradient(self, needed):
        """Return an empty `[N]` for the gradient of a bias, or nothing."""
        shape = self.flat_shape[2:]
        return (torch.empty(shape, dtype=torch.float32, device=self.device),) if needed else ()

    def _flat(self, tensor):
        if not self.in_order:
            tensor = tensor.permute(0, 1, *self.order)
        return tensor.reshape(*tensor.shape[:2], self.flat_shape[2]).contiguous()

    def unflatten(self, flat):
        """Return a tensor `[*leading dimensions, N]` as `[*leading dimensions, *features]`, a view."""
        leading = flat.shape[:-1]
        if self.in_order:
            return flat.view((*leading, *self.shape[2:]))  # () of one coefficient
        places = [len(leading) + self.order.index(dim) for dim in range(2, len(self.shape))]
        return flat.view(*leading, *(self.shape[dim] for dim in self.order)).permute(*range(len(leading)), *places)

    def states(self, flat):
        """Return final states `[k, B, N]` as the layer's caller sees them.

        To autograd they are no views, and none knows of the others: each may be changed in place.
        """
        return [state.data for state in self.unflatten(flat)]


def _autocast_to_bf16(device_type):
    return torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) == torch.bfloat16


def where_needed(needed, flat, layout):
    """Return gradients of states as the layer's caller sees them; None where they are not needed."""
    return [layout.unflatten(gradient) if need else None for gradient, need in zip(flat, needed)]
