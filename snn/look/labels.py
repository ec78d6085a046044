"""What pictures, TensorBoard and a run's lines call the layers of a network."""

from snn.layers.encoders import ENCODERS
from snn.layers.layer import output_name
from snn.layers.synapses import Synapse


def layer_labels(net):
    """Return each layer's label, by its name in the network: "synapses 1", "Linear 1", "hidden 1", "output".

    Layers of a kind are counted from the input on; the last one that spikes is the output.
    """
    labels, numbers, output = {}, {}, []
    for name, layer in net.named_modules():
        kind = "synapses" if isinstance(layer, Synapse) else type(layer).__name__
        if isinstance(layer, ENCODERS):
            labels[name] = "encoder"
            continue
        if output_name(layer) == "spikes":
            kind, output = "hidden", [name]
        numbers[kind] = numbers.get(kind, 0) + 1
        labels[name] = f"{kind} {numbers[kind]}"
    return labels | dict.fromkeys(output, "output")
