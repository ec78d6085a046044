"""One training on several GPUs, machines or CPU processes, as torchrun starts them: `torchrun --nproc-per-node=2 ...`.

Each process is a rank with a share of every batch and noise of its own; rank 0 alone writes and speaks. Without
torchrun there is one rank, and nothing here does anything.
"""

import os
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import timedelta

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from snn.base.errors import UserError

TIMEOUT = timedelta(minutes=10)  # for what one rank does while the others wait, such as converting recordings


class LostRank(Exception):
    """Another rank has ended, or does not answer."""


@contextmanager
def started():
    """Join the other ranks, if torchrun started this process; within it rank 0 alone prints to the standard output.

    Raises LostRank instead of what the library raises when another rank is gone.
    """
    if not launched():
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    try:
        with redirect_stdout(open(os.devnull, "w")) if rank() else nullcontext():
            yield
    except RuntimeError as error:
        if "gloo" in str(error).lower() or isinstance(error, dist.DistError):
            raise LostRank("another rank has ended, or does not answer") from error
        raise
    finally:
        dist.destroy_process_group()


def launched():
    """Whether torchrun started this process."""
    return dist.is_torchelastic_launched()


def rank():
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ["RANK"]) if launched() else 0


def ranks():
    """How many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device_of_rank(name):
    """`cuda` as the GPU that is this rank's; other names as they are."""
    if ranks() == 1:
        return name
    if name.startswith("cuda:"):
        raise UserError(f"device {name}: every rank takes a GPU of its own; use cuda")
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" else name


def own_seed(seed):
    """The seed of this rank's noise."""
    return seed + 10_000 * rank()


@contextmanager
def one_first():
    """On each machine one rank goes through this first, then the others: it makes the files that these find."""
    first = ranks() == 1 or os.environ["LOCAL_RANK"] == "0"
    if not first:
        largest(0)
    yield
    if first:
        largest(0)


def shares(size, batch_size, generator, shuffle, device):
    """The samples of every batch that are this rank's share.

    Args:
        size: how many samples there are.
        batch_size: of all ranks together.
        generator: draws the order if `shuffle`; that of rank 0 counts.
    Returns a list of index tensors; where the last batch has fewer samples than there are ranks, some are empty.
    """
    order = torch.arange(size, device=device)
    if shuffle:
        order = torch.randperm(size, generator=generator, device=device)
        if ranks() > 1:
            dist.broadcast(order, 0)
    return [batch.tensor_split(ranks())[rank()] for batch in order.split(batch_size)]


def parallel(net):
    """The network as one whose backward pass averages the gradients over the ranks, all with rank 0's weights."""
    if ranks() == 1:
        return net
    # One bucket for most of these networks: on CPUs each exchange of gradients costs milliseconds.
    return DistributedDataParallel(net, bucket_cap_mb=25, gradient_as_bucket_view=True)


def total(tensor):
    """The sum of the ranks' tensors."""
    if ranks() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def largest(number):
    """The largest of the ranks' integers, which all of them wait for; no GPU does."""
    if ranks() > 1:
        number = torch.tensor(number)
        dist.all_reduce(number, dist.ReduceOp.MAX)
        number = int(number)
    return number


def gathered(value):
    """A list of the ranks' values (CPU tensors, nested in dicts and tuples) on rank 0; None on the others."""
    if ranks() == 1:
        return [value]
    values = [None] * ranks() if rank() == 0 else None
    dist.gather_object(value, values)
    return values
