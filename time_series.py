"""SNN-MLP on time series of the UCR/UEA archive: C channels - encoder - hidden layers - classes.

python time_series.py --demo                                     JapaneseVowels, which ships, a few epochs
python time_series.py --train                                    the same; settings: configs/time_series.yaml
python time_series.py --train --set dataset.name=BasicMotions    another dataset, from data/time_series
python time_series.py --test                                     the last epoch on the test set
"""

import snn
from snn.data.series import steps
from snn.layers.encoders import encoder
from snn.layers.sequential import neuron, synapse
from snn.run.cli import main
from snn.tasks.series import SeriesClassification

task = SeriesClassification()


def network(config):
    """Encoder - hidden layers - classes: a synapse filter before every dense layer, dropout after each hidden one."""
    p, measured = config["hyperparameters"] | {"length": steps(config)}, config["measured"]
    layers, lines = encoder(len(measured["scaling"]), config)
    for size in p["hidden"]:
        layers += [synapse(lines, p), snn.Linear(lines, size), neuron(p), snn.Dropout(p["dropout"])]
        lines = size
    return snn.Sequential(*layers, synapse(lines, p), snn.Linear(lines, len(measured["classes"])), neuron(p))


if __name__ == "__main__":
    main("time_series", network, task)
