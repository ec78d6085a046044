"""What every dataset provides: splits, each of which yields its samples in batches.

A module of `snn.data`, or your own module, is a dataset if it has

    NAMES                         the values of `dataset.name` that select it
    KEYS                          its config keys, nested as in the YAML: `encoding`, `dataset`, and others
    load(config, device, shape)   -> {"train": split, "dev": split, "test": split}, and a note on the data for the end
                                     of the test line ("" for none); shape is the network's input shape at one step,
                                     or None if its first layer does not say it

and, where the network or its input depends on more of the files than the config says, such as classes and scaling,

    measure(config)               -> that, as a dict of plain values, which is `config["measured"]` from then on, for
                                     `load`, the network, and every checkpoint; empty if there is nothing
    MEASURED                      its keys, as in KEYS

and, where classes have names,

    class_names(config)           -> them, for pictures and answers, in the order of their labels
"""

import hashlib

import torch

from snn.base import ranks
from snn.base.keys import PLACE, Key, choice, folder_path, not_negative, size

RATE_SCALE = Key(
    0, not_negative, "the loss takes spike rates, spikes by steps, times this; 0: spike counts, as published"
)
SPLIT_SEED = 42
END = 100_000  # values at each end of a tensor that a fingerprint looks at


class Split:
    """Samples that come in batches; a subclass has `device`, `__len__` and `batch`."""

    length = None  # time steps of each sample; None: `hyperparameters.length`
    repeats = 1  # how often each sample comes in a pass, all of which `__len__` counts

    def batch(self, indices, generator):
        """Return the samples with these numbers.

        Args:
            indices: `[B]` int64 on `device`.
            generator: draws all random numbers in them; with torch's own, a resumed run would give other results.
        Returns x `[T, B, *features]`, with the same T in every batch, and targets as the task takes them, one tensor:
        labels `[B]`, or more, `[*, B, ...]`; what belongs to no step, such as padding, is marked in them.
        """
        raise NotImplementedError

    def fingerprint(self):
        """Return a short string that is another one for other data, for checkpoints: of what a split holds as integers.

        Of large tensors both ends count, to take no time; sums of floats differ from machine to machine.
        """
        return fingerprint(len(self), *(value for _, value in sorted(vars(self).items()) if torch.is_tensor(value)))

    def batches(self, batch_size, generator, shuffle=False):
        """Yield (x, targets) until every sample has come once; the last batch may be smaller.

        On several ranks, this rank's share of every batch (`snn.base.ranks.batches`).
        """
        return self.batches_of(ranks.batches(len(self), batch_size, generator, shuffle, self.device), generator)

    def batches_of(self, shares, generator):
        """Yield the batch of each share, an index tensor; override this to make several batches at once."""
        for indices in shares:
            yield self.batch(indices, generator)


class Subset(Split):
    """`size` samples of a split, always the same ones, from all of it: splits are often sorted by class."""

    def __init__(self, split, size):
        samples = len(split) // split.repeats
        self.split, self.indices = split, some(samples, size).to(split.device)
        self.device, self.length, self.repeats = split.device, split.length, split.repeats
        self.indices = self.indices.repeat(split.repeats)

    def __len__(self):
        return len(self.indices)

    def batches_of(self, shares, generator):
        return self.split.batches_of([self.indices[share] for share in shares], generator)

    def fingerprint(self):
        return fingerprint(self.split.fingerprint(), self.indices)


def same_order(count):
    """Return the numbers from 0 to `count` - 1 in random order, always the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))


def some(count, size):
    """Return `size` of the numbers from 0 to `count` - 1, always the same ones, in their order; 0 means all.

    A file's first samples are no fair choice: it is often sorted, by class or by who is easy.
    """
    return same_order(count)[: size or None].sort()[0]


def used(part, count, size):
    """Return the index of the `size` samples that are used of a part's `count`; 0 means all.

    Those of train and dev, which are drawn already, are the first.
    """
    return some(count, size) if part == "test" and size else slice(size or None)


def fingerprint(number, *tensors):
    """Return a hash of a number and of tensors, of floating-point ones the shape alone."""
    seen = hashlib.sha256(str(number).encode())
    for tensor in tensors:
        seen.update(str(list(tensor.shape)).encode())
        if not tensor.is_floating_point():
            flat = tensor.flatten()
            seen.update(torch.cat([flat[:END], flat[-END:]]).cpu().numpy().tobytes())
    return seen.hexdigest()[:16]


def dataset_keys(names, **others):
    """Return the `dataset` section of a config: its name, the dataset's own keys, and the sizes of the splits."""
    return {
        "name": Key(names[0], choice(*names), " or ".join(names)),
        **others,
        "train_size": Key(0, size, "number of samples to use; 0: all"),
        "dev_size": Key(0, size, "number of samples for dev; 0: all that the dataset holds out"),
        "test_size": Key(0, size, "number of samples to use; 0: all"),
    }


def root_key(default, holds):
    """Return the key `dataset.root`."""
    return Key(default, folder_path, f"the folder that holds {holds}", PLACE)
