"""SNN-CNN on MNIST: 32C3-32C3-64C3-P2-64C3-P2-512-10, dual-exponential synapses, each pixel's value at every step.

python snn_conv_1_mnist.py --demo      embedded digits, in a few minutes
python snn_conv_1_mnist.py --train     MNIST, 100 epochs; settings: configs/snn_conv_1_mnist.yaml
python snn_conv_1_mnist.py --test      the best epoch on the test set
"""

from torch import nn

import snn
from snn.layers.sequential import neuron, synapse
from snn.run.cli import main


def network(config):
    """32C3-32C3-64C3-P2-64C3-P2-512-10: a synapse filter before every convolution, pooling and dense layer."""
    p = config["hyperparameters"]
    return snn.Sequential(
        synapse((1, 28, 28), p), snn.Conv2d(1, 32, 3, padding=1), neuron(p),
        synapse((32, 28, 28), p), snn.Conv2d(32, 32, 3, padding=1), neuron(p),
        synapse((32, 28, 28), p), snn.Conv2d(32, 64, 3, padding=1), neuron(p),
        synapse((64, 28, 28), p), nn.MaxPool2d(2),
        synapse((64, 14, 14), p), snn.Conv2d(64, 64, 3, padding=1), neuron(p),
        synapse((64, 14, 14), p), nn.MaxPool2d(2), nn.Flatten(),
        synapse(64 * 7 * 7, p), snn.Linear(64 * 7 * 7, 512), neuron(p), snn.Dropout(p["dropout"]),
        synapse(512, p), snn.Linear(512, 10), neuron(p),
    )  # fmt: skip


if __name__ == "__main__":
    main("snn_conv_1_mnist", network)
