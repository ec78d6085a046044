"""Recurrent neurons: their spikes come back to all of them, through synapse filters and weights."""

import torch

from snn.kernels import kernels_for
from snn.layers.layer import Layer, is_watched
from snn.layers.linear import Linear
from snn.layers.neurons import SpikingNeuron
from snn.layers.parts import is_part
from snn.layers.synapses import DualExpIIR, FirstOrderLowPass, Unfiltered

IN_ONE_LOOP = [(SpikingNeuron, synapse, Linear) for synapse in (DualExpIIR, FirstOrderLowPass, Unfiltered)]


class Recurrent(Layer):
    """Neurons whose spikes come back a step later, each through a synapse filter, and weights from all to all.

        spikes[t] = neuron(x[t] + W psp[t-1]),  psp[t] = synapse(spikes[t])

    Where a whole sequence runs on the CPU, in float32, with this project's neuron and synapse (or a first-order one, or
    none), it runs in one compiled loop; elsewhere step by step.

    Args:
        neuron: a layer of neurons.
        synapse: a synapse of the shape of their output, `[N]`.

    Shape: current `[T, B, N]` -> spikes `[T, B, N]`; state (psp `[B, N]`, the neuron's state, the synapse's state), of
    which psp is the synapse's output.

    Raises ValueError for a synapse of another shape, and for an input of another size.
    """

    output = "spikes"

    def __init__(self, neuron, synapse):
        super().__init__()
        if len(synapse.shape) != 1:
            raise ValueError(f"Recurrent takes a synapse of shape [N], got {list(synapse.shape)}")
        self.neuron, self.synapse = neuron, synapse
        self.back = Linear(*synapse.shape * 2, bias=False)

    def checked(self, x):
        x = super().checked(x)
        if x.shape[2:] != self.synapse.shape:
            raise ValueError(f"Recurrent takes [T, B, {self.back.in_features}], got {list(x.shape)}")
        return x

    def forward(self, x, state=None):
        x = self.checked(x)
        neuron, synapse, back = parts = self.neuron, self.synapse, self.back
        own_step = type(self).step is not Recurrent.step or "step" in vars(self)
        usual = tuple(map(type, parts)) in IN_ONE_LOOP and back.bias is None and not own_step
        fits = usual and back.weight.shape == synapse.shape * 2  # else the step says what is wrong
        kernels = kernels_for(x)
        psp, of_neuron, of_synapse = state or (None, None, None)
        starts_apart = psp is not None and of_synapse is None  # psp is not the synapse's
        # To lay out the weights for the loop would take longer; parts that run again for gradients go the same way.
        is_step = len(x) == 1 and not torch.is_grad_enabled() and not is_part()
        if not (fits and kernels.recurrent_neuron) or starts_apart or is_step or any(map(is_watched, parts)):
            return super().forward(x, state)
        constants = neuron.decay, neuron.membrane_filter, neuron.threshold, neuron.surrogate
        second_order = isinstance(synapse, DualExpIIR)
        if second_order:
            coefficients, of_synapse = (synapse.a1, synapse.a2, synapse.b1), of_synapse or (None, None)
        else:
            gain = torch.ones_like(synapse.a1) if synapse.gain is None else synapse.gain
            coefficients = synapse.a1, torch.zeros_like(synapse.a1), gain
            of_synapse = of_synapse, None
        spikes, v, r, *of_synapse = kernels.recurrent_neuron(
            x, of_neuron or (None, None), constants, back.weight, of_synapse, coefficients
        )
        psp = of_synapse[0]
        return spikes, (psp, (v, r), tuple(of_synapse) if second_order else psp)

    def step(self, x, state=None):
        psp, of_neuron, of_synapse = state or (torch.zeros_like(x), None, None)
        spikes, of_neuron = self.neuron((x + self.back(psp))[None], of_neuron)  # called, so that hooks see it
        psp, of_synapse = self.synapse(spikes, of_synapse)
        return spikes[0], (psp[0], of_neuron, of_synapse)
