"""Convert a run to a checkpoint and back: all the state it needs to resume as if it had never stopped."""

import time
import warnings
from collections import Counter

import torch
from torch.optim import lr_scheduler

from snn import checkpoint
from snn.base import ranks
from snn.base.errors import UserError
from snn.layers.state import map_tensors
from snn.run import folders
from snn.run.loop import Counts


def capture(trainer):
    """Return the checkpoint of a Trainer (for its keys see `snn.checkpoint.store`); every rank takes part."""
    random = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(trainer.device) if trainer.device.type == "cuda" else None,
        "data": trainer.at_pass_start if trainer.counts else trainer.generator.get_state(),
    }
    preserved = trainer.preserved and map_tensors(torch.Tensor.cpu, trainer.preserved.state)
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
            "counts": {name: counts.total() for name, counts in trainer.counts.items()},
            "lr": trainer.lr,
            "seconds": time.monotonic() - trainer.began if trainer.counts else 0,
        },
    }


def restore(trainer, saved):
    """Bring a new Trainer to the state in the checkpoint `saved`.

    Raises UserError for one of other data, and for one from the middle of an epoch on a device of another type.
    """
    for name, fingerprint in trainer.data.items():
        if saved.get("data", {}).get(name, fingerprint) != fingerprint:
            raise UserError(
                f"--resume needs the same data, but the split {name} holds other samples than in the checkpoint's run: "
                "restore the dataset, or leave out --resume to start a new run"
            )
    running = saved["running"]
    trainer.history, trainer.best_model = saved["history"], saved["best_model"]
    trainer.owns_folder = True
    trainer.run_folder = folders.own_run_folder(saved["run_folder"], trainer.config["experiment_name"])
    if trainer.run_folder is None:
        folder = str(saved["run_folder"])[:100]
        ranks.note(f"the checkpoint's run folder {folder} is not one in runs/: this makes a new one")
    trainer.lr, trainer.seconds = running["lr"], running["seconds"]
    trainer.optimizer.load_state_dict(saved["optimizer"])
    for parameter, moments in trainer.optimizer.state.items():
        for name, value in moments.items():
            if torch.is_tensor(value) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"the optimizer's {name} has shape {list(value.shape)}, not {list(parameter.shape)}")
    if trainer.scheduler:
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # true if only dev was left
        trainer.scheduler.load_state_dict(saved["scheduler"])
        if isinstance(trainer.scheduler, lr_scheduler.MultiStepLR):  # future ones may have changed
            trainer.scheduler.milestones = Counter(trainer.config["scheduler"]["MultiStepLR"]["milestones"])
    _restore_counts(trainer, running["counts"])
    _restore_random(trainer, saved)
    _restore_preserved(trainer, saved)


def _restore_counts(trainer, saved_counts):
    for name, counts in saved_counts.items():
        if ranks.rank():  # rank 0 holds the counts of all
            nothing = {layer: torch.zeros_like(spikes) for layer, spikes in counts["spikes"].items()}
            counts = {"batches": counts["batches"], "spikes": nothing}
        trainer.counts[name] = Counts(trainer.device, **counts)


def _restore_random(trainer, saved):
    if saved["device"] != trainer.device.type:
        if trainer.counts:
            raise UserError(
                f"the checkpoint is from the middle of an epoch on {saved['device']}: resume it with --device "
                f"{saved['device']}, not {trainer.device.type}"
            )
        differ = "from now on random numbers differ from those of a single device"
        ranks.note(f"trained on {saved['device']} so far; {differ}")
    elif ranks.rank() < len(saved["random"]):
        random = saved["random"][ranks.rank()]
        torch.set_rng_state(random["torch"])
        if random["cuda"] is not None:
            torch.cuda.set_rng_state(random["cuda"], trainer.device)
        trainer.generator.set_state(random["data"])
    trainer.at_pass_start = trainer.generator.get_state()


def _restore_preserved(trainer, saved):
    before, now = len(saved["random"]), ranks.ranks()
    if before != now:
        states = "; preserved states start from zero" if trainer.preserved else ""
        ranks.note(f"ranks: {now} from now on, {before} so far{states}")
    elif trainer.preserved:
        kept = saved["preserved"][ranks.rank()]
        trainer.preserved.state = map_tensors(lambda state: state.to(trainer.device), kept)
