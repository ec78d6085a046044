"""Spiking networks whose synapses are trainable IIR filters (Fang et al., IJCAI 2020, arXiv 2003.02944)."""

from snn.dropout import Dropout
from snn.monitor import record
from snn.network import Sequential
from snn.neurons import SpikingNeuron
from snn.synapses import DualExpFilter, DualExpIIR, FirstOrderLowPass

__all__ = ["Dropout", "DualExpFilter", "DualExpIIR", "FirstOrderLowPass", "Sequential", "SpikingNeuron", "record"]
