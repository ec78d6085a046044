"""SNN on electrocardiograms (QTDB, which ships): spikes - bank of filters - recurrent neurons - a class at each step.

python ecg.py --demo      a few epochs
python ecg.py --train     settings: configs/ecg.yaml
python ecg.py --test      the best epoch on the test records
"""

import snn
from snn.data.ecg import CLASSES, LINES
from snn.layers.encoders import encoder
from snn.layers.sequential import neuron, synapse
from snn.run.cli import main
from snn.tasks.steps import StepClassification

task = StepClassification()


def network(config):
    """Bank of filters - recurrent layers - filters and a dense layer: its output is a potential of each class."""
    p = config["hyperparameters"]
    layers, lines = encoder(LINES, config)
    for size in p["hidden"]:
        layers += [synapse(lines, p), snn.Linear(lines, size), snn.Recurrent(neuron(p), synapse(size, p))]
        lines = size
    return snn.Sequential(*layers, synapse(lines, p), snn.Linear(lines, CLASSES))


if __name__ == "__main__":
    main("ecg", network, task)
