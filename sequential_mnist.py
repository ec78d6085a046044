"""SNN-MLP on MNIST in time: one pixel at each of 784 steps, a bank of 64 synapse filters on it - 256 - 256 - 10.

python sequential_mnist.py --demo      embedded digits, 64 pixels, in a minute
python sequential_mnist.py --train     MNIST; settings: configs/sequential_mnist.yaml
python sequential_mnist.py --test      the best epoch on the test set
"""

import snn
from snn.layers.encoders import Copies
from snn.layers.sequential import neuron, synapse
from snn.run.cli import main


def network(config):
    """Bank - 256 - 256 - 10: the pixel goes into 64 filters, if any; a synapse filter before every dense layer."""
    p = config["hyperparameters"]
    lines = 1 if p["synapse_type"] == "none" else 64  # only filters tell lines apart
    return snn.Sequential(
        Copies(lines), synapse(lines, p), snn.Linear(lines, 256), neuron(p), snn.Dropout(p["dropout"]),
        synapse(256, p), snn.Linear(256, 256), neuron(p), snn.Dropout(p["dropout"]),
        synapse(256, p), snn.Linear(256, 10), neuron(p),
    )  # fmt: skip


if __name__ == "__main__":
    main("sequential_mnist", network)
