"""One run on several GPUs, machines or CPU processes, started by torchrun: `torchrun --nproc-per-node=2 ...`.

Each process is a rank with its own share of every batch and its own noise; only rank 0 writes files and prints.
Without torchrun there is one rank, and nothing here has any effect.
"""

import itertools
import os
import time
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from snn.base.errors import UserError
from snn.base.output import quiet

_groups = itertools.count()
TIMEOUT = timedelta(minutes=10)  # while the others wait, one rank may for example convert recordings


class LostRank(Exception):
    """Another rank has ended, or does not answer."""


@contextmanager
def started():
    """Join the other ranks, if torchrun started this process; in the block the others print nothing but errors.

    Raises LostRank in place of the library's error when another rank is gone, and UserError if another launcher than
    torchrun started several processes.
    """
    if not launched():
        for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
            if os.environ.get(name, "1").strip() not in ("", "1"):
                raise UserError(
                    f"{name} is {os.environ[name]}, but torchrun did not start this process: start torchrun on each "
                    f"machine, or unset {name} to run one process"
                )
        yield
        return
    joined, lost = not dist.is_initialized(), False  # else a group of the caller's, who also ends it
    if joined:
        _join()
    try:
        with ExitStack() as stack:
            if rank():
                stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
                stack.enter_context(quiet(notes=False))
            yield
    except RuntimeError as error:
        lost = "gloo" in str(error).lower() or isinstance(error, dist.DistError)
        if lost:
            raise LostRank("another rank has ended, or does not answer") from error
        raise
    finally:
        if joined and not lost:  # NCCL would wait for it
            time.sleep(0.3)  # torch 2.7 hangs where gloo's threads have not let go of the last tensors yet
            dist.destroy_process_group()


def _join():
    """Join the other ranks, under names that no earlier group of these processes has left in torchrun's store."""
    store, number, count = next(dist.rendezvous("env://", timeout=TIMEOUT))
    on_one_machine = os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]  # others count restarts by themselves
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0) if on_one_machine else ""
    store = dist.PrefixStore(f"snn {restarts} {next(_groups)}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=TIMEOUT)


def launched():
    """Whether torchrun started this process."""
    return dist.is_torchelastic_launched()


def rank():
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ["RANK"]) if launched() else 0


def ranks():
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device_of_rank(name):
    """Return this rank's GPU for `cuda`, and other names unchanged."""
    if ranks() == 1:
        return name
    if name.startswith("cuda:"):
        raise UserError(f"device {name}: each rank takes its own GPU; use cuda")
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" else name


def own_seed(seed):
    """Return the seed of this rank's noise."""
    return seed + 10_000 * rank()


@contextmanager
def one_first():
    """On each machine, let one rank run the block first and create the files that the others then find."""
    first = ranks() == 1 or os.environ["LOCAL_RANK"] == "0"
    if not first:
        largest(0)
    yield
    if first:
        largest(0)


def batches(size, batch_size, generator, shuffle, device):
    """Return this rank's share of every batch.

    Args:
        size: number of samples.
        batch_size: over all ranks.
        generator: draws the order if `shuffle`; rank 0's order is used.
    Returns a list of index tensors; some are empty where the last batch has fewer samples than there are ranks.
    """
    order = torch.arange(size, device=device)
    if shuffle:
        order = torch.randperm(size, generator=generator, device=device)
        if ranks() > 1:
            dist.broadcast(order, 0)
    return [batch.tensor_split(ranks())[rank()] for batch in order.split(batch_size)]


def parallel(net):
    """Wrap the network so that its backward pass averages gradients over the ranks; all get rank 0's weights."""
    if ranks() == 1:
        return net
    # One bucket for most of these networks: on CPUs each exchange of gradients costs milliseconds.
    return DistributedDataParallel(net, bucket_cap_mb=25, gradient_as_bucket_view=True)


def broadcast(tensors):
    """Give all ranks rank 0's values of tensors."""
    for tensor in tensors if ranks() > 1 else ():
        value = tensor.contiguous()
        dist.broadcast(value, 0)
        tensor.copy_(value)


def check_same(values):
    """Raise UserError on all ranks if one's value of a key is not rank 0's; all ranks must call it with the same keys.

    Ranks that train with different settings give wrong results, or wait for each other for ever.
    """
    if ranks() == 1:
        return
    of_all = [None] * ranks()
    dist.all_gather_object(of_all, values)
    for number, others in enumerate(of_all):
        for key, value in others.items():
            if value != of_all[0][key]:
                raise UserError(f"rank {number} has {key} {value}, rank 0 {of_all[0][key]}: start all ranks alike")


def total(tensor):
    """Return the sum of the ranks' tensors."""
    if ranks() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def largest(number):
    """Return the largest of the ranks' integers; all ranks wait for it, but no GPU does."""
    if ranks() > 1:
        number = torch.tensor(number)
        dist.all_reduce(number, dist.ReduceOp.MAX)
        number = int(number)
    return number


def gathered(value):
    """Return a list of the ranks' values (CPU tensors, nested in dicts and tuples) on rank 0, None on the others."""
    if ranks() == 1:
        return [value]
    values = [None] * ranks() if rank() == 0 else None
    dist.gather_object(value, values)
    return values
