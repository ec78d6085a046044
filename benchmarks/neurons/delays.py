"""A trained delay for each line, in place of a synapse filter."""

import torch
from torch import nn

import snn


class Delays(snn.Synapse):
    """Lines that each arrive later by a trained delay.

        psp[t] = (1 - f) x[t - k] + f x[t - k - 1],  k + f = delay, k whole

    So between two whole steps there is a part of both, and the delay's gradient is their difference. DCLS-Delays
    (Hammouamri et al. 2024), whose delays are of each synapse, takes a Gaussian over many steps instead, which it
    narrows while it trains.

    Before training, delays are spread evenly from 0 to the longest.

    Args:
        shape: shape of the input at one step, an int or a tuple.
        longest: in steps, above 0; delays are kept from 0 to that.
        trainable: whether delays are trained.

    Shape: x `[T, B, *shape]` -> psp `[T, B, *shape]`; state the inputs before, latest last, `[B, longest + 1, *shape]`.
    """

    coefficients, states, multiply_adds = ("delay",), ("past",), 2
    optimizer_options = {"delay": {"lr_factor": 100, "weight_decay": 0}}  # they are in steps

    def __init__(self, shape, longest, trainable=True):
        super().__init__(shape)
        self.longest = max(1, round(longest))
        spread = torch.linspace(0, self.longest, self.shape.numel()).view(self.shape)
        self.delay = nn.Parameter(spread, requires_grad=trainable)

    @classmethod
    def from_config(cls, shape, hyperparameters):
        p = hyperparameters
        return cls(shape, p["filters"]["longest"] or p["length"] / 2, p["train_coefficients"])

    def forward(self, x, state=None):
        x = self.checked(x)
        past = x.new_zeros(self.longest + 1, *x.shape[1:]) if state is None else state.transpose(0, 1)
        known = torch.cat([past, x])  # its step 0 is `longest + 1` before the first one
        delay = self.delay.clamp(0, self.longest)
        whole = delay.detach().floor()
        steps = torch.arange(len(x), device=x.device).view(-1, *[1] * (x.dim() - 1))
        here = (steps + self.longest + 1 - whole.long()).expand_as(x)
        f = delay - whole
        psp = (1 - f) * known.gather(0, here) + f * known.gather(0, here - 1)
        return psp, known[-self.longest - 1 :].transpose(0, 1)

    @torch.no_grad()
    def stabilize(self):
        """Clamp to 0 to the longest: a delay has no poles, and can't be unstable."""
        self.delay.clamp_(0, self.longest)
