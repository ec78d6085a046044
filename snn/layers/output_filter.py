"""The filter of the associative memory's output: what its loss sees."""

from snn.kernels import kernels_for
from snn.layers.layer import Layer, decay


class DualExpFilter(Layer):
    """Fixed dual-exponential filter whose impulse response peaks near 1: the output filter of the associative memory.

        m[t] = e^(-1/tau_m) m[t-1] + x[t],  s[t] = e^(-1/tau_s) s[t-1] + x[t],  y[t] = v0 (m[t] - s[t])
        v0 = eta^(eta / (eta - 1)) / (eta - 1),  eta = tau_m / tau_s

    Args:
        tau_m, tau_s: time constants of decay and rise in time steps, tau_m > tau_s > 0.

    Shape: x `[T, B, *features]` -> y of the same shape; state (m, s), each `[B, *features]`.

    Raises ValueError for other time constants, and for an input without steps or of integers.
    """

    output = "psp"
    states, multiply_adds = ("m", "s"), 3

    def __init__(self, tau_m, tau_s):
        super().__init__()
        if not tau_m > tau_s > 0:
            raise ValueError(f"DualExpFilter needs tau_m > tau_s > 0, got tau_m {tau_m}, tau_s {tau_s}")
        self.tau_m, self.tau_s = tau_m, tau_s

    @property
    def constants(self):
        """The two decays, and the gain."""
        eta = self.tau_m / self.tau_s
        return decay(self.tau_m), decay(self.tau_s), eta ** (eta / (eta - 1)) / (eta - 1)

    def forward(self, x, state=None):
        x = self.checked(x)
        m, s = state or (None, None)
        y, *state = kernels_for(x).dual_exp_filter(x, m, s, *self.constants)
        return y, tuple(state)

    def extra_repr(self):
        return f"tau_m={self.tau_m}, tau_s={self.tau_s}"
