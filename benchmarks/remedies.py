"""Synapses that benchmarks/drift.py tries against filters that drift out of stability."""

import math

import torch
from torch import nn

from snn.kernels import kernels_for
from snn.layers.synapses import DualExpIIR, Synapse


class Pulled(DualExpIIR):
    """Coefficients that decay towards their start: a training step moves them by `rate`, to be set, of the distance."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.start = [getattr(self, name).detach().clone() for name in self.coefficients]

    def forward(self, x, state=None):
        if self.training:
            with torch.no_grad():
                for name, start in zip(self.coefficients, self.start):
                    getattr(self, name).lerp_(start, self.rate)
        return super().forward(x, state)


class Poles(Synapse):
    """A dual-exponential synapse that trains the logits of its two poles, in (0, 1): a1 = p + q, a2 = -p q."""

    states, on_kernels = ("psp", "psp_before"), True
    coefficients = ("logit_p", "logit_q", "b1")

    def __init__(self, shape, tau_m, tau_s, trainable=True):
        super().__init__(shape)
        p, q = math.exp(-1 / tau_m), math.exp(-1 / tau_s)
        for name, value in zip(self.coefficients, (math.log(p / (1 - p)), math.log(q / (1 - q)), p - q)):
            setattr(self, name, nn.Parameter(torch.full(self.shape, value), requires_grad=trainable))

    @classmethod
    def from_config(cls, shape, hyperparameters):
        p = hyperparameters
        return cls(shape, p["tau_m"], p["tau_s"], p["train_coefficients"])

    def forward(self, x, state=None):
        x = self.checked(x)
        p, q = self.logit_p.sigmoid(), self.logit_q.sigmoid()
        psp, *state = kernels_for(x).dual_exp_iir(x, *(state or (None, None)), p + q, -p * q, self.b1)
        return psp, tuple(state)

    @torch.no_grad()
    def poles(self):
        return torch.stack([self.logit_p.sigmoid(), self.logit_q.sigmoid()]).sort(0, descending=True)[0]
