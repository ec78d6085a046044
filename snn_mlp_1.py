"""SNN-MLP on MNIST: 784-500-500-10, dual-exponential synapses, each pixel's value at every step.

python snn_mlp_1.py --demo      embedded digits, in a minute
python snn_mlp_1.py --train     MNIST, 100 epochs; settings: configs/snn_mlp_1.yaml
python snn_mlp_1.py --test      the best epoch on the test set
"""

import snn
from snn.layers.sequential import neuron, synapse
from snn.run.cli import main


def network(config):
    """784-500-500-10: a synapse filter before every dense layer, dropout after both hidden ones."""
    p = config["hyperparameters"]
    return snn.Sequential(
        synapse(784, p), snn.Linear(784, 500), neuron(p), snn.Dropout(p["dropout"]),
        synapse(500, p), snn.Linear(500, 500), neuron(p), snn.Dropout(p["dropout"]),
        synapse(500, p), snn.Linear(500, 10), neuron(p),
    )  # fmt: skip


if __name__ == "__main__":
    main("snn_mlp_1", network)
