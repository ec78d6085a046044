"""sequential_mnist with the pixels in one random order, the same for all images: its checkpoints keep it.
Settings: configs/sequential_mnist_permuted.yaml"""

from snn.experiments.sequential_mnist import network
from snn.run.cli import main

if __name__ == "__main__":
    main("sequential_mnist_permuted", network)
