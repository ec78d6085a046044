"""Spiking networks whose synapses are trainable IIR filters (Fang et al., IJCAI 2020, arXiv 2003.02944)."""

from snn.base.errors import UserError
from snn.checkpoint.onnx import export_onnx
from snn.checkpoint.trained import load_trained as load
from snn.kernels import surrogates
from snn.layers.chunks import chunked
from snn.layers.dropout import Dropout
from snn.layers.layer import Layer
from snn.layers.linear import Conv2d, Linear
from snn.layers.neurons import SpikingNeuron
from snn.layers.output_filter import DualExpFilter
from snn.layers.recurrent import Recurrent
from snn.layers.sequential import Sequential
from snn.layers.synapses import DualExpIIR, FirstOrderLowPass, Synapse, stabilize
from snn.look.cost import cost
from snn.look.recorder import record
from snn.run.predict import Predictor
from snn.run.signals import Stopped
from snn.run.train import train

__all__ = [
    "Conv2d", "Dropout", "DualExpFilter", "DualExpIIR", "FirstOrderLowPass", "Layer", "Linear", "Predictor",
    "Recurrent", "Sequential", "SpikingNeuron", "Stopped", "Synapse", "UserError", "chunked", "cost", "export_onnx",
    "load", "record", "stabilize", "surrogates", "train",
]  # fmt: skip
