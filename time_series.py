"""SNN-MLP on time series of the UCR/UEA archive: C channels - encoder - 128 - 128 - classes.

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
    """Encoder - 128 - 128 - classes: a synapse filter before every dense layer, dropout after both hidden ones."""
    p, measured = config["hyperparameters"] | {"length": steps(config)}, config["measured"]
    layers, lines = encoder(len(measured["scaling"]), config)
    return snn.Sequential(
        *layers, synapse(lines, p), snn.Linear(lines, 128), neuron(p), snn.Dropout(p["dropout"]),
        synapse(128, p), snn.Linear(128, 128), neuron(p), snn.Dropout(p["dropout"]),
        synapse(128, p), snn.Linear(128, len(measured["classes"])), neuron(p),
    )  # fmt: skip


if __name__ == "__main__":
    main("time_series", network, task)
