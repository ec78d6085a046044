"""Balanced resonate-and-fire neurons."""

import torch
from torch import nn

from benchmarks.neurons.common import Neuron

DT, FASTEST = 0.01, 0.99  # FASTEST: of dt omega, below 1, where no damping would be enough


class BRF(Neuron):
    """Balanced resonate-and-fire neurons (Higuchi, Kairat, Bohté, Otte 2024): damped oscillators with a soft reset.

        q[t] = 0.9 q[t-1] + s[t-1],  b[t] = p(omega) - b' - q[t]
        u[t] = u[t-1] + dt (b[t] u[t-1] - omega v[t-1] + I[t])
        v[t] = v[t-1] + dt (omega u[t-1] + b[t] v[t-1])
        s[t] = 1 if u[t] > 1 + q[t] else 0

    with dt = 0.01. p(omega) = (-1 + sqrt(1 - (dt omega)^2)) / dt is the damping below which an oscillation would grow;
    omega and b' are taken as absolute values.

    Args:
        size: N.
        surrogate: one of `snn.surrogates`.
        omega, offset: lowest and highest omega and b' before training; as a default those of the paper for QTDB.
            For sequential MNIST omega is from 15 to 50, and from 15 to 85 where it is permuted.

    Shape: as `Neuron`; state (spikes, u, v, q).
    """

    states = ("spike", "u", "v", "q")
    multiply_adds = 7
    optimizer_options = {"omega": {"weight_decay": 0}, "offset": {"weight_decay": 0}}

    def __init__(self, size, surrogate, omega=(3, 5), offset=(0.1, 1)):
        super().__init__(size, surrogate)
        self.omega, self.offset = (nn.Parameter(torch.empty(size).uniform_(*ends)) for ends in (omega, offset))

    def coefficients(self):
        turn = (DT * self.omega.abs()).clamp(max=FASTEST)
        return (1 - turn**2).sqrt() - 1 - DT * self.offset.abs(), turn, DT, 0.9, 1.0

    @staticmethod
    def update(current, spike, state, coefficients):
        (u, v, q), (damping, turn, dt, kept, threshold) = state, coefficients
        q = kept * q + spike
        b = damping - dt * q
        u, v = u + b * u - turn * v + dt * current, v + turn * u + b * v
        return u - threshold - q, (u, v, q)

    @staticmethod
    def gradient(grad_above, grad_state, current, spike, state, coefficients):
        (u, v, q), (damping, turn, dt, kept, _) = state, coefficients
        b = damping - dt * (kept * q + spike)
        grad_u, grad_v = grad_state[0] + grad_above, grad_state[1]
        grad_b = grad_u * u + grad_v * v
        grad_q = grad_state[2] - grad_above - dt * grad_b
        before = grad_u + b * grad_u + turn * grad_v, grad_v + b * grad_v - turn * grad_u, kept * grad_q
        return dt * grad_u, grad_q, before, (grad_b, grad_v * u - grad_u * v)
