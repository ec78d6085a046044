"""SNN-CNN on N-MNIST: 32C3-32C3-64C3-P2-64C3-P2-256-10, dual-exponential synapses, an event camera's spikes.

python snn_conv_1_nmnist.py --demo      simulated recordings, in a few minutes
python snn_conv_1_nmnist.py --train     N-MNIST, 100 epochs; settings: configs/snn_conv_1_nmnist.yaml
python snn_conv_1_nmnist.py --test      the best epoch on the test set
"""

from torch import nn

import snn
from snn.layers.sequential import neuron, synapse
from snn.run.cli import main


def network(config):
    """32C3-32C3-64C3-P2-64C3-P2-256-10: a synapse filter before every convolution, pooling and dense layer."""
    p = config["hyperparameters"]
    return snn.Sequential(
        synapse((2, 34, 34), p), snn.Conv2d(2, 32, 3, padding=1), neuron(p),
        synapse((32, 34, 34), p), snn.Conv2d(32, 32, 3, padding=1), neuron(p),
        synapse((32, 34, 34), p), snn.Conv2d(32, 64, 3, padding=1), neuron(p),
        synapse((64, 34, 34), p), nn.MaxPool2d(2, padding=1),
        synapse((64, 18, 18), p), snn.Conv2d(64, 64, 3, padding=1), neuron(p),
        synapse((64, 18, 18), p), nn.MaxPool2d(2), nn.Flatten(),
        synapse(64 * 9 * 9, p), snn.Linear(64 * 9 * 9, 256), neuron(p), snn.Dropout(p["dropout"]),
        synapse(256, p), snn.Linear(256, 10), neuron(p),
    )  # fmt: skip


if __name__ == "__main__":
    main("snn_conv_1_nmnist", network)
