"""Spiking networks whose synapses are trainable IIR filters (Fang et al., IJCAI 2020, arXiv 2003.02944)."""

from snn.layers.dropout import Dropout
from snn.layers.neurons import SpikingNeuron
from snn.layers.sequential import Sequential
from snn.layers.synapses import DualExpFilter, DualExpIIR, FirstOrderLowPass
from snn.look.recorder import record

__all__ = ["Dropout", "DualExpFilter", "DualExpIIR", "FirstOrderLowPass", "Sequential", "SpikingNeuron", "record"]
