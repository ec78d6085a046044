"""snn_mlp_1 with first-order low-pass synapses. Settings: configs/snn_mlp_2.yaml"""

from snn.experiments.snn_mlp_1 import network
from snn.run.cli import main

if __name__ == "__main__":
    main("snn_mlp_2", network)
