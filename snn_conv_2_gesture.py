"""SNN-CNN on DVS128 Gesture, beyond the paper: P2-32C3-P2-64C3-P2-64C3-P2-64C3-P2-110, averaged to 11; 20 bins.

python snn_conv_2_gesture.py --demo      simulated recordings, in a few minutes
python snn_conv_2_gesture.py --train     DVS128 Gesture, 64 epochs; settings: configs/snn_conv_2_gesture.yaml
python snn_conv_2_gesture.py --test      the best epoch on the test set

After Fang et al. 2021 (arXiv 2007.05785): norms, pooling after every convolution, ten output neurons for each class.
"""

from torch import nn

import snn
from snn.layers.sequential import neuron, synapse
from snn.run.cli import main
from snn.tasks.gestures import Gestures

task = Gestures()


def network(config):
    """2x128x128 - P2 - 32C3-P2 - 64C3-P2 - 64C3-P2 - 64C3-P2 - classes x 10, averaged: a norm before hidden neurons."""
    p, classes = config["hyperparameters"], config["dataset"]["classes"]
    return snn.Sequential(
        nn.MaxPool2d(2),
        synapse((2, 64, 64), p), snn.Conv2d(2, 32, 3, padding=1), nn.BatchNorm2d(32), neuron(p), nn.MaxPool2d(2),
        synapse((32, 32, 32), p), snn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), neuron(p), nn.MaxPool2d(2),
        synapse((64, 16, 16), p), snn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), neuron(p), nn.MaxPool2d(2),
        synapse((64, 8, 8), p), snn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), neuron(p), nn.MaxPool2d(2),
        nn.Flatten(), synapse(64 * 4 * 4, p), snn.Dropout(p["dropout"]), snn.Linear(64 * 4 * 4, 10 * classes),
        neuron(p), nn.AvgPool1d(10),
    )  # fmt: skip


if __name__ == "__main__":
    main("snn_conv_2_gesture", network, task)
