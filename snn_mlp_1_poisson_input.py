"""snn_mlp_1 with Poisson input: spikes at the rate of each pixel. Settings: configs/snn_mlp_1_poisson_input.yaml"""

from snn.experiments.snn_mlp_1 import network
from snn.run.cli import main

if __name__ == "__main__":
    main("snn_mlp_1_poisson_input", network)
