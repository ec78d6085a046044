"""snn_conv_1_mnist with Poisson input: spikes at the rate of each pixel.

Settings: configs/snn_conv_1_mnist_poisson_input.yaml
"""

from snn.experiments.snn_conv_1_mnist import network
from snn.run.cli import main

if __name__ == "__main__":
    main("snn_conv_1_mnist_poisson_input", network)
