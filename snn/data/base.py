"""What every dataset gives: splits, each of which yields its samples in batches.

A module of `snn.data`, or one of your own, is a dataset if it has

    NAMES                         the values of `dataset.name` that mean it
    KEYS                          its keys of the config, nested as in the YAML: `encoding`, `dataset`, and others
    load(config, device, shape)   -> {"train": split, "dev": split, "test": split}, and what to say of the data behind a
                                     test result ("" for nothing); shape is that of the network's input at one step
"""

from snn.base import ranks
from snn.base.keys import PLACE, Key, choice, size, string


class Split:
    """Samples that come in batches; a subclass has `device`, `__len__` and `batch`."""

    def batch(self, indices, generator):
        """The samples with these numbers.

        Args:
            indices: `[B]` int64 on `device`.
            generator: of all that is random in them; with torch's own a resumed run would give other numbers.
        Returns x `[T, B, *features]`, and targets as the task takes them: labels `[B]`, or sequences `[T, B, *]`.
        """
        raise NotImplementedError

    def batches(self, batch_size, generator, shuffle=False):
        """Yield (x, targets) until every sample came once; the last batch may be smaller.

        On several ranks, this rank's share of every batch (`snn.base.ranks.shares`).
        """
        return self.batches_of(ranks.shares(len(self), batch_size, generator, shuffle, self.device), generator)

    def batches_of(self, shares, generator):
        """Yield the batch of each share, an index tensor; for a dataset that makes several at once faster."""
        for indices in shares:
            yield self.batch(indices, generator)


def dataset_keys(names, **others):
    """The `dataset` section of a config: its name, what is of this dataset alone, and the sizes of the splits."""
    return {
        "name": Key(names[0], choice(*names), " or ".join(names)),
        **others,
        "train_size": Key(0, size, "number of samples to use; 0: all"),
        "dev_size": Key(0, size, "number of samples for dev; 0: the published share"),
        "test_size": Key(0, size, "number of samples to use; 0: all"),
    }


def root_key(default, holds):
    """The key `dataset.root`."""
    return Key(default, string, f"the folder that holds {holds}", PLACE)
