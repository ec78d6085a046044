"""The datasets, by the names that `dataset.name` may have."""

from snn.data import gesture, images, nmnist, patterns

TABLE = {name: dataset for dataset in (images, nmnist, gesture, patterns) for name in dataset.NAMES}
