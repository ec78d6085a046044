"""Which time series are for train, dev and test: shares of classes, or of groups such as people."""

import numpy as np

from snn.base.errors import UserError
from snn.base.output import note
from snn.data.series_lines import in_order

DEV_SHARE = 0.2


def places(given, config, left_out):
    """Return the places of train, dev and test in a training set; the groups `left_out` are the test set."""
    in_test = np.isin(given.groups, left_out) if left_out else np.zeros(len(given.labels), bool)
    learned = np.flatnonzero(~in_test)
    groups = None if given.groups is None else given.groups[learned]
    in_train, in_dev = _dev_of(given.labels[learned], config["pytorch_seed"], config["dataset"]["refit"], groups)
    return learned[in_train], learned[in_dev], np.flatnonzero(in_test)


def left_out(given, dataset, before=None):
    """Return the groups that are the test set: every `folds`-th in order; none with a test set beside it.

    `before` are those that a checkpoint's run left out, or None: it is tested on them, whatever the folds are now.
    """
    if not given.is_whole:
        if dataset["fold"] and before is None:
            note(f"dataset.fold: {dataset['fold']} has no effect: {given.path} has a test set beside it")
        return []
    if given.groups is None:
        raise UserError(
            f"{given.path} has no test set beside it: give one, or say whose each series is (dataset.groups; groups of "
            "arrays), and folds of these are left out for it"
        )
    folds, fold, groups = dataset["folds"], dataset["fold"], in_order(given.groups.tolist())
    if before is not None:
        if not {*before} & {*groups}:
            lacks = f"none of the groups that the checkpoint's run left out: {', '.join(before)}"
            raise UserError(f"{given.path} has {lacks if before else 'no test set beside it, as that of the run had'}")
        if before != groups[fold::folds]:
            note(f"the test set is what the checkpoint's run left out, {', '.join(before)}, whatever the folds are now")
        return before
    if folds > len(groups):
        raise UserError(f"dataset.folds: {folds}, but {given.path} has {len(groups)} groups: {', '.join(groups)}")
    if fold >= folds:
        raise UserError(f"dataset.fold: {fold} is none of {folds} folds, which count from 0")
    return groups[fold::folds]


def _dev_of(labels, seed, refit, groups=None):
    """Return the places of train and dev, both in random order; dev is a share of each class, or of the groups."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(labels))
    if groups is None:
        in_dev = [_share(order[labels[order] == label], refit) for label in np.unique(labels)]
        in_dev = np.concatenate(in_dev)
    else:
        in_dev = order[np.isin(groups[order], _share(draw.permutation(np.unique(groups)), refit))]
    return order if refit else order[~np.isin(order, in_dev)], draw.permutation(in_dev)


def _share(drawn, refit):
    """Return those of some drawn places or groups that are for dev: DEV_SHARE of them, but not all if not `refit`."""
    return drawn[: min(len(drawn) - (not refit), max(1, round(DEV_SHARE * len(drawn))))]
