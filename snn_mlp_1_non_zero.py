"""snn_mlp_1 with states carried over, detached, from batch to batch, also in evaluation.

Settings: configs/snn_mlp_1_non_zero.yaml
"""

from snn.experiments.snn_mlp_1 import network
from snn.run.cli import main

if __name__ == "__main__":
    main("snn_mlp_1_non_zero", network)
