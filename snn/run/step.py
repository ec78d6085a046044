"""One batch: forward, a step of training, an evaluation. Nothing here waits for the device."""

from contextlib import nullcontext

import torch
from torch.nn.utils import clip_grad_norm_

from snn.base import ranks
from snn.base.drawn import drawn_apart
from snn.base.errors import UserValueError
from snn.layers.chunks import as_configured
from snn.layers.state import preserved_state
from snn.layers.synapses import stabilize
from snn.look import drive, health
from snn.run.passes import Pass, data_generator
from snn.tasks.answers import Answers


def train_step(net, optimizer, watch, task, config, x, targets, state=None, share=1):
    """Train on a batch; return the sums of its samples' losses, scores and ties, and the state that it ends with.

    Args:
        watch: the optimizer's `FiniteWatch`.
        x, targets, state, share: of a `snn.run.passes.Batch`.
    """
    optimizer.zero_grad()
    weight = config["hyperparameters"]["rate_loss"]
    with health.hidden_spikes(net) if weight else nullcontext() as spikes:
        loss, sums, end = forward(net, task, config, x, targets, state)
    if weight:
        rates = [of_layer / x.shape[0] for of_layer in spikes.values()]  # [B, *features]
        loss = loss + weight * sum(rate.square().sum() for rate in rates) / max(sum(map(torch.numel, rates)), 1)
    (loss * share).backward()
    watch.guard(loss)
    if config["optimizer"]["clip"]:
        for group in optimizer.param_groups:  # coefficients have gradients a hundred times those of weights
            clip_grad_norm_(group["params"], config["optimizer"]["clip"])
    optimizer.step()
    if config["hyperparameters"]["stable_filters"]:
        stabilize(net)
    return sums, end if config["states"] == "preserved" else None  # a state would keep what the backward needed


def evaluate_step(net, task, config, x, targets, state=None, keep=None):
    """Return the sums of a batch as `forward` does, the state that it ends with, and its spikes by layer."""
    with health.spikes_counted(net) as spikes:
        _, sums, end = forward(net, task, config, x, targets, state, keep)
    return sums, end, spikes


def forward(net, task, config, x, targets, state=None, keep=None):
    """Return a batch's mean loss, the sums of its samples' losses, scores and ties, and the state that it ends with.

    After these sums comes whether its input is not finite: neurons hide that, since no comparison with NaN is a spike.
    That is 0 in training, where the gradient shows it (as ties are), and for input that is read chunk by chunk. `keep`
    is called with the task's answers, if it classifies.
    """
    samples = x.shape[1]
    y, end, of_output = drive.run(net, config, x, state)
    loss = task.loss(y, targets) if samples else y.sum()  # the mean of nothing is not a number
    if not (torch.is_tensor(loss) and loss.dim() == 0):
        got = list(loss.shape) if torch.is_tensor(loss) else type(loss).__name__
        name = type(task).__name__
        raise UserValueError(f"{name}.loss must return the batch's mean, a tensor without dimensions, not {got}")
    sums, y = torch.zeros(4, dtype=torch.float64, device=x.device), y.detach()
    settled = task.settled(y, of_output, targets) if drive.decides(net, config) else y
    sums[:1], sums[1:2] = loss.detach() * samples, task.score(settled, targets)  # a number into sums[1] would wait
    if not net.training:
        sums[2:3] = task.ties(y, targets)
        if torch.is_tensor(x):  # to ask each value would take 200 times as long on a CPU; float16's sum would overflow
            sums[3:] = ~x.sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite()
    if keep and task.classifies:
        keep(task.answers(y, settled, targets))
    return loss, sums, end


@torch.no_grad()
def evaluate(net, split, config, task):
    """Return the Result of a whole split; the same network, config and number of ranks always give the same."""
    device = next(net.parameters()).device
    generator = data_generator(device, config)
    whole, found = Pass(split, task, config, generator, "test", preserved=preserved_state(config)), []
    net.eval()
    with drawn_apart(device, ranks.own_seed(config["pytorch_seed"])):  # a network may draw in eval mode too
        for batch in whole:
            whole.add(batch, *evaluate_step(net, task, config, batch.x, batch.targets, batch.state, found.append))
    return whole.result()._replace(answers=_of_all_ranks(found))


def _of_all_ranks(found):
    """Return the Answers of all ranks' shares of the batches as one, in the samples' order; None on other ranks."""
    by_rank = ranks.gathered([Answers(*(values.cpu() for values in of_share)) for of_share in found])
    of_shares = [share for batch in zip(*by_rank or ()) for share in batch]
    return Answers(*map(torch.cat, zip(*of_shares))) if of_shares else None


@torch.no_grad()
def loss_of_silence(net, split, config, task):
    """Return the loss on a split's first batch of an output without spikes."""
    batch = torch.arange(min(len(split), config["hyperparameters"]["batch_size"]), device=split.device)
    x, targets = next(iter(split.batches_of([batch], data_generator(split.device, config))))
    with drawn_apart(x.device):
        y, _ = as_configured(net.eval(), config, x)
    return task.loss(torch.zeros_like(y), targets).item()
