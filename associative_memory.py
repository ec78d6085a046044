"""Associative memory: 300-500-200-500-300, completes corrupted spatio-temporal spike patterns, four steps later.

python associative_memory.py --demo      the patterns that ship, a few epochs
python associative_memory.py --train     100 epochs; settings: configs/associative_memory.yaml
python associative_memory.py --test      the best epoch on unseen corrupted patterns
"""

import snn
from snn.layers.sequential import neuron, synapse
from snn.run.cli import main
from snn.tasks.association import Association

task = Association()


def network(config):
    """300-500-200-500-300: a synapse filter before every dense layer, a fixed filter after the last neurons."""
    p = config["hyperparameters"]
    return snn.Sequential(
        synapse(300, p), snn.Linear(300, 500), neuron(p),
        synapse(500, p), snn.Linear(500, 200), neuron(p),
        synapse(200, p), snn.Linear(200, 500), neuron(p),
        synapse(500, p), snn.Linear(500, 300), neuron(p),
        snn.DualExpFilter(p["filter_tau_m"], p["filter_tau_s"]),
    )  # fmt: skip


if __name__ == "__main__":
    main("associative_memory", network, task)
