"""What pictures, TensorBoard and a run's lines call the layers of a network."""

from snn.layers.encoders import ENCODERS
from snn.layers.layer import hidden_layers, spiking_layers
from snn.layers.synapses import Synapse


def layer_labels(net):
    """Return each layer's label, by its name in the network: "synapses 1", "Linear 1", "hidden 1", "output".

    Layers of a kind are counted from the input on; the last one that spikes is the output, if no weights are behind it.
    """
    labels, numbers, spiking, hidden = {}, {}, spiking_layers(net), hidden_layers(net)
    for name, layer in net.named_modules():
        if isinstance(layer, ENCODERS):
            labels[name] = "encoder"
            continue
        kind = "synapses" if isinstance(layer, Synapse) else "hidden" if name in spiking else type(layer).__name__
        numbers[kind] = numbers.get(kind, 0) + 1
        labels[name] = f"{kind} {numbers[kind]}"
    return labels | {name: "output" for name in spiking if name not in hidden}
