"""Runs that differ in their seed alone, one after the other, each with checkpoints of its own."""

from contextlib import ExitStack
from pathlib import Path
from statistics import mean, stdev

from snn import config
from snn.run import folders


def configs(settings, number):
    """Return the configs of `number` runs: with the seed of `settings`, and with those after it.

    Checkpoints of seed 2 lie in <checkpoint_base_path>/seed_2/<experiment_name>. Raises UserError for seeds too large.
    """
    first, base = settings["pytorch_seed"], Path(settings["checkpoint_base_path"])
    own = ({"pytorch_seed": n, "checkpoint_base_path": str(base / f"seed_{n}")} for n in range(first, first + number))
    return [config.check(settings | of_seed) for of_seed in own]


def move_older_aside(later):
    """Move what older runs left in the folders of later ones aside, so that --resume does not take it for theirs."""
    with ExitStack() as stack:
        for folder in later:
            stack.enter_context(folders.owned_by_a_run(folder))
        for folder in later:
            folders.move_aside(folder)


def summary(task, figures):
    """Return the last line, for programs to read: mean ± standard deviation of the task's metric over the seeds.

    Args:
        figures: of each seed, the metric by part of the data: {"dev": 97.2, "test": 96.4}.
    """
    by_part = {part: [of_seed[part] for of_seed in figures] for part in figures[0]}
    texts = [f"{part} {task.text(mean(values))} ± {stdev(values):.2g}" for part, values in by_part.items()]
    return f"{len(figures)} seeds: {', '.join(texts)}"
