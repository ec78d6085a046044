"""SNN-CNN on DVS128 Gesture: 64C7-32C3-32C3-256-11, dual-exponential synapses, an event camera's spikes in 50 bins.

python snn_conv_1_gesture.py --demo      simulated recordings, in a few minutes
python snn_conv_1_gesture.py --train     DVS128 Gesture, 100 epochs; settings: configs/snn_conv_1_gesture.yaml
python snn_conv_1_gesture.py --test      the best epoch on the test set
"""

from torch import nn

import snn
from snn.layers.sequential import neuron, synapse
from snn.run.cli import main


def network(config):
    """2x128x128 - 64C7 stride 3 - 32C3 stride 3 - 32C3 - 256 - classes: a synapse filter before every layer."""
    p = config["hyperparameters"]
    return snn.Sequential(
        synapse((2, 128, 128), p), snn.Conv2d(2, 64, 7, stride=3, padding=1), neuron(p),
        synapse((64, 42, 42), p), snn.Conv2d(64, 32, 3, stride=3), neuron(p),
        synapse((32, 14, 14), p), snn.Conv2d(32, 32, 3, padding=1), neuron(p), nn.Flatten(),
        synapse(32 * 14 * 14, p), snn.Linear(32 * 14 * 14, 256), neuron(p), snn.Dropout(p["dropout"]),
        synapse(256, p), snn.Linear(256, config["dataset"]["classes"]), neuron(p),
    )  # fmt: skip


if __name__ == "__main__":
    main("snn_conv_1_gesture", network)
