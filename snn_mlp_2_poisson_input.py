"""snn_mlp_1 with first-order low-pass synapses and Poisson input. Settings: configs/snn_mlp_2_poisson_input.yaml"""

from snn.run.cli import main
from snn_mlp_1 import network

if __name__ == "__main__":
    main("snn_mlp_2_poisson_input", network)
