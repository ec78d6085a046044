"""Convert a run to a checkpoint and back: all the state it needs to resume as if it had never stopped."""

import math
import os
import time
import warnings

import torch

from snn import checkpoint
from snn.base import ranks
from snn.base.errors import UserError, not_written
from snn.base.keys import checked, choice, count, list_of, not_negative, size
from snn.base.output import note
from snn.checkpoint import check_tensors
from snn.layers.chunks import as_configured
from snn.layers.state import map_tensors
from snn.look import health
from snn.run import folders
from snn.run.optimizers import new_moments


def _sum(value):
    if type(value) not in (int, float):  # also nan: a loss on dev may be
        raise ValueError("a number")
    return value


# What changes in a scheduler from step to step, and in the counts of a pass; how each is checked.
COUNTERS = {
    "last_epoch": size, "_step_count": size, "T_cur": size, "T_i": count,
    "_last_lr": list_of(not_negative, "a list of learning rates"),
}  # fmt: skip
COUNTS = {
    "batches": size, "samples": size,
    "sums": list_of(_sum, "two to four numbers", lambda sums: 2 <= len(sums) <= 4),
}  # fmt: skip


def capture(trainer):
    """Return the checkpoint of a Trainer (for its keys see `snn.checkpoint.store`); every rank takes part."""
    random = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(trainer.device) if trainer.device.type == "cuda" else None,
        "data": trainer.at_pass_start if trainer.passes else trainer.generator.get_state(),
    }
    preserved = trainer.preserved and _plain(map_tensors(torch.Tensor.cpu, trainer.preserved.state))
    return {
        "version": checkpoint.VERSION,
        "config": trainer.config,
        "epoch": trainer.history[-1]["epoch"] if trainer.history else -1,
        "model": trainer.net.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.scheduler and trainer.scheduler.state_dict(),
        "device": trainer.device.type,
        "random": ranks.gathered(random),
        "preserved": ranks.gathered(preserved),
        "history": trainer.history,
        "best_model": trainer.best_model,
        "run_folder": str(trainer.run_folder),
        "data": trainer.data,
        "running": {
            "counts": {name: of_pass.counts() for name, of_pass in trainer.passes.items()},
            "lr": trainer.lr,
            "seconds": time.monotonic() - trainer.began if trainer.passes else 0,
        },
    }


def _plain(state):
    """Return a state as plain tuples: a checkpoint holds no class of one's own, such as a NamedTuple."""
    return tuple(map(_plain, state)) if isinstance(state, tuple) else state


def restore(trainer, saved):
    """Bring a new Trainer to the state in the checkpoint `saved`.

    Raises UserError for one of other data, for one from the middle of an epoch on a device of another type, and as
    `check_tensors` does; any other error is of a field that is not what `capture` writes.
    """
    for name, fingerprint in trainer.data.items():
        if saved.get("data", {}).get(name, fingerprint) != fingerprint:
            raise UserError(
                f"--resume needs the same data, but the split {name} holds other samples than in the checkpoint's run: "
                "restore the dataset, or leave out --resume to start a new run"
            )
    _restore_history(trainer, saved)
    trainer.owns_folder = trainer.config["save_checkpoint"]
    trainer.run_folder = folders.own_run_folder(saved["run_folder"], trainer.config["experiment_name"])
    if trainer.run_folder is None:
        folder = str(saved["run_folder"])[:100]
        note(f"the checkpoint's run folder {folder} is not one in runs/: this makes a new one")
    _restore_optimizer(trainer, saved["optimizer"])
    if trainer.scheduler:
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # true if only dev was left
        own = vars(trainer.scheduler)
        for name in COUNTERS.keys() & own.keys():  # all else in it comes from the config, which may have changed
            own[name] = checked(name, COUNTERS[name], saved["scheduler"][name])
    _restore_running(trainer, saved["running"])
    _restore_preserved(trainer, saved)
    _restore_random(trainer, saved)


def _restore_history(trainer, saved):
    trainer.history, trainer.best_model = saved["history"], saved["best_model"]
    if len(trainer.history) != saved["epoch"] + 1:
        raise ValueError(f"its history has {len(trainer.history)} epochs, and it is of epoch {saved['epoch']}")
    columns = [f"{part}_{trainer.task.metric}" for part in ("train", "dev")]
    for epoch, row in enumerate(trainer.history):
        figures = [row.get(column) for column in columns]  # that of train may be nan
        if row.get("epoch") != epoch or {*map(type, figures)} - {int, float} or not math.isfinite(figures[1]):
            raise ValueError(f"its history has no epoch {epoch}, or no {' and '.join(columns)} of it")
    if trainer.history:
        check_tensors(trainer.best_model, trainer.net.state_dict(), _path(trainer))


def _restore_optimizer(trainer, saved):
    """Take the learning rates and the moments; all else in an optimizer's state comes from the config."""
    optimizer, first, found, own = trainer.optimizer, 0, {}, {}
    before, now = len(saved["param_groups"]), len(optimizer.param_groups)
    if before != now:
        raise ValueError(f"its optimizer has {before} groups of parameters, not {now}: another version made it")
    for group, of_group in zip(optimizer.param_groups, saved["param_groups"]):
        group["lr"] = checked("learning rate", not_negative, of_group["lr"])
        moments = new_moments(optimizer, group)
        if moments and trainer.history and not saved["state"]:
            raise ValueError("its optimizer has no moments")
        for n, parameter in enumerate(group["params"], first):
            if n in saved["state"]:
                found |= {f"{name} of parameter {n}": value for name, value in saved["state"][n].items()}
                own |= {
                    f"{name} of parameter {n}": parameter if value.dim() else value for name, value in moments.items()
                }
        first += len(group["params"])
    if unknown := saved["state"].keys() - range(first):
        raise ValueError(f"its optimizer has moments of parameter {unknown.pop()}, of {first}")
    check_tensors(found, own, _path(trainer))
    for name, value in found.items():
        counts = name.startswith("step ")
        if (counts or name.startswith("exp_avg_sq ")) and ((value < 0).any() or (counts and value % 1)):
            raise ValueError(f"its optimizer has a {name} that is {'no count' if counts else 'below 0'}")
    # Of their own memory: the optimizer writes to them, and a file's may share theirs.
    state = {n: {name: value.clone() for name, value in moments.items()} for n, moments in saved["state"].items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _restore_running(trainer, running):
    """Take what the unfinished epoch has counted."""
    trainer.lr = None if running["lr"] is None else checked("learning rate", not_negative, running["lr"])
    trainer.seconds = checked("seconds", not_negative, running["seconds"])
    for name, counts in running["counts"].items():
        numbers = {key: checked(key, COUNTS[key], value) for key, value in counts.items() if key != "spikes"}
        size_of_batch, samples = trainer.config["hyperparameters"]["batch_size"], len(trainer.splits[name])
        batches = numbers["batches"]
        expected = min(batches * size_of_batch, samples)
        if batches > -(-samples // size_of_batch) or numbers.get("samples", expected) != expected:
            raise ValueError(f"it has counted {numbers.get('samples')} samples in {batches} batches of {name}")
        spikes = counts.get("spikes", {})
        if spikes:
            check_tensors(spikes, _after_a_sample(trainer)[1], _path(trainer))
        if ranks.rank():  # rank 0 holds the counts of all
            numbers = {"batches": numbers["batches"]}
            spikes = {layer: torch.zeros_like(of_layer) for layer, of_layer in spikes.items()}
        trainer.pass_over(name, numbers | {"spikes": spikes})
    if "dev" in trainer.passes and "train" not in trainer.passes:
        raise ValueError("it has counted dev before train")


@torch.no_grad()
def _after_a_sample(trainer):
    """Return the network's state after one sample, and its spikes by layer: what a checkpoint's are like."""
    one = torch.zeros(1, dtype=torch.long, device=trainer.device)
    x, _ = next(iter(trainer.splits["dev"].batches_of([one], torch.Generator(trainer.device))))
    with health.spikes_counted(trainer.net) as spikes:
        _, state = as_configured(trainer.net.eval(), trainer.config, x)
    return state, spikes


def _restore_random(trainer, saved):
    if checked("device", choice("cpu", "cuda"), saved["device"]) != trainer.device.type:
        if trainer.passes:
            raise UserError(
                f"the checkpoint is from the middle of an epoch on {saved['device']}: resume it with --device "
                f"{saved['device']}, not {trainer.device.type}"
            )
        differ = "from now on random numbers differ from those of a single device"
        note(f"trained on {saved['device']} so far; {differ}")
    elif ranks.rank() < len(saved["random"]):
        random = saved["random"][ranks.rank()]
        torch.set_rng_state(random["torch"])
        if trainer.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], trainer.device)
        trainer.generator.set_state(random["data"])
    trainer.at_pass_start = trainer.generator.get_state()


def _restore_preserved(trainer, saved):
    before, now = len(saved["random"]), ranks.ranks()
    if not before:
        raise ValueError("it has no random state")
    if before != now:
        states = "; preserved states start from zero" if trainer.preserved else ""
        note(f"ranks: {now} from now on, {before} so far{states}")
    elif trainer.preserved:
        kept = saved["preserved"][ranks.rank()]
        if kept is None and not trainer.history and not trainer.passes:
            return

        def taken(own, kept):
            rows = len(kept) if torch.is_tensor(kept) and kept.dim() else 1
            named = {"preserved state": kept}, {"preserved state": own.expand(rows, *own.shape[1:])}
            check_tensors(*named, _path(trainer))
            return kept.to(trainer.device)

        trainer.preserved.state = map_tensors(taken, _after_a_sample(trainer)[0], kept)


def _path(trainer):
    return trainer.folder / "last.pt"


def complete(trainer):
    """Write best.pt where a run resumes and has none of its own: last.pt alone may have been moved."""
    if not (trainer.history and trainer.config["save_checkpoint"] and ranks.rank() == 0):
        return
    best, why = trainer.folder / "best.pt", "missing"
    saved = _readable(best)
    if _comes_again(trainer, saved):
        return
    if _is_of_best_epoch(trainer, saved):
        if saved["config"]["ties"] == trainer.config["ties"]:
            return
        why = f"of ties: {saved['config']['ties']}"
    elif os.path.lexists(best):
        others = (best.with_name(f"best_other{suffix}.pt") for suffix in folders.SUFFIXES)
        other = next(path for path in others if not os.path.lexists(path))
        why = f"not that of this run's best epoch, and is {other.name} now"
        try:
            os.replace(best, other)
        except OSError as error:
            raise not_written(other, error) from None
    checkpoint.save(best, {"config": trainer.config, "epoch": trainer.best["epoch"], "model": trainer.best_model})
    note(f"{best} was {why}: it is made from last.pt")


def _readable(file):
    """Return a checkpoint of ours, or {} if there is none."""
    try:
        saved = checkpoint.load(file)
    except UserError:
        return {}
    return saved if "model" in saved else {}


def _comes_again(trainer, saved):
    """Whether a checkpoint is of this run, of a later epoch: the process was killed before it saved last.pt."""
    done, history = len(trainer.history), saved.get("history", ())
    return len(history) > done and repr(history[:done]) == repr(trainer.history)  # nan is equal too


def _is_of_best_epoch(trainer, saved):
    model, own = saved.get("model", {}), trainer.best_model
    is_same = saved.get("epoch") == trainer.best["epoch"] and model.keys() == own.keys()
    return is_same and all(torch.equal(model[name], own[name].cpu()) for name in own)
