"""Classification of gestures where dev is a few clips of a few people, so that many epochs are equal on it."""

from snn.tasks.classification import Classification


class Gestures(Classification):
    """Of epochs with the same accuracy on dev, that with the lower loss is better."""

    def is_better(self, entry, than):
        mine, other = ((line["dev_acc"], -line["dev_loss"]) for line in (entry, than))
        return mine > other
