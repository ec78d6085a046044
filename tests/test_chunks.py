"""Sequences in chunks of time: the same outputs and gradients as the whole, without its memory."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import torch
from scripts import TINY
from small import resolve
from test_snn_train import nested
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

import snn
from snn.base import process
from snn.data.base import Split
from snn.layers.state import Preserved
from snn.look.health import spikes_counted
from snn.run.trainer import Trainer
from snn.tasks.classification import Classification

T, B = 23, 5


class Recurrent(snn.Layer):
    """A layer as users write it: what it returned a step ago comes back."""

    output, states = "y", ("before",)

    def __init__(self, size):
        super().__init__()
        self.back = nn.Linear(size, size)

    def forward(self, x, state=None):
        y, outputs = torch.zeros_like(x[0]) if state is None else state, []
        for x_t in self.checked(x):
            y = torch.tanh(x_t + self.back(y))
            outputs.append(y)
        return torch.stack(outputs), y


def mlp(dropout=0.0):
    torch.manual_seed(0)
    return awake(
        snn.DualExpIIR(6, 4, 1), snn.Linear(6, 20), snn.SpikingNeuron(4), snn.Dropout(dropout),
        snn.DualExpIIR(20, 4, 1), snn.Linear(20, 12), Recurrent(12),
        snn.FirstOrderLowPass(12, 4), snn.Linear(12, 3), snn.SpikingNeuron(4),
    )  # fmt: skip


def cnn():
    torch.manual_seed(0)
    return awake(
        snn.DualExpIIR((2, 6, 6), 4, 1), snn.Conv2d(2, 4, 3), snn.SpikingNeuron(4, membrane_filter=True),
        snn.DualExpIIR((4, 4, 4), 4, 1), nn.AvgPool2d(2), nn.Flatten(), snn.Linear(16, 3), snn.SpikingNeuron(4),
        snn.DualExpFilter(4, 1),
    )  # fmt: skip


def awake(*layers):
    net = snn.Sequential(*layers)
    for layer in net:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(layer.weight, std=3 / layer.weight[0].numel() ** 0.5)
    return net


def spikes_of(*shape):
    return (torch.rand(T, B, *shape, generator=torch.Generator().manual_seed(1)) < 0.3).float()


def tensors(state):
    return [state] if torch.is_tensor(state) else [leaf for part in state or () for leaf in tensors(part)]


def results(net, run, x):
    """Return output, last state and gradients of x and of all parameters, with a loss that takes the state too."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    y, state = run(x)
    weights = torch.linspace(0.5, 2, y.numel()).view_as(y)
    ((y * weights).sum() + sum(leaf.square().sum() for leaf in tensors(state))).backward()
    return y.detach(), tensors(state), [x.grad, *(parameter.grad for parameter in net.parameters())]


def _rounds_alike():
    """Whether products of a chunk's rows are those of all rows to the last digit, here: it depends on the library."""
    for inputs, outputs in ((6, 20), (20, 12), (12, 3), (16, 3), (6, 4)):
        layer, x = snn.Linear(inputs, outputs), torch.rand(T, B, inputs)
        if any(not torch.equal(layer(x)[:steps], layer(x[:steps])) for steps in range(1, 8)):
            return False
    return True


ROUNDS_ALIKE = _rounds_alike()


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def assert_same(found, expected):
    assert expected[0].any() and len(found[1]) == len(expected[1])
    for value, other in zip((found[0], *found[1]), (expected[0], *expected[1])):
        if ROUNDS_ALIKE:
            assert torch.equal(value, other)
        assert_close(value, other)
    for gradient, other in zip(found[2], expected[2]):
        assert_close(gradient, other)
    assert all(gradient.any() for gradient in expected[2])


@pytest.mark.parametrize("steps", [1, 7, T, 100, "auto"])
@pytest.mark.parametrize("make, shape", [(mlp, (6,)), (cnn, (2, 6, 6))])
def test_outputs_are_those_of_the_whole_and_gradients_too(make, shape, steps):
    net, x = make(), spikes_of(*shape)
    assert_same(results(net, lambda x: snn.chunked(net, x, steps), x), results(net, net, x))


def test_it_goes_on_from_a_state_and_hands_its_gradient_back():
    net, x, found = mlp(), spikes_of(6), []
    for run in (lambda x, state: snn.chunked(net, x, 4, state), net):
        net.zero_grad()
        state = tuple(net(x)[1])
        first = [leaf.retain_grad() or leaf for leaf in tensors(state)]
        y, _ = run(x, state)
        y.square().sum().backward()
        found.append((y, [leaf.grad for leaf in first]))
    (y, gradients), (expected, of_whole) = found
    assert torch.equal(y, expected)
    for gradient, other in zip(gradients, of_whole):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_so_when_a_chunk_runs_again():
    net, x = mlp(), spikes_of(6).bfloat16()

    def run(x, steps):
        with torch.autocast("cpu", torch.bfloat16):
            return snn.chunked(net, x, steps)

    found, expected = (results(net, lambda x, steps=steps: run(x, steps), x) for steps in (5, T))
    assert torch.equal(found[0], expected[0])
    for gradient, other in zip(found[2], expected[2]):  # b1's of the chunks is summed in another form
        torch.testing.assert_close(gradient, other, rtol=0.05, atol=0.02 * other.abs().max().item())


def test_a_chunk_runs_again_with_its_dropout():
    net, x = mlp(dropout=0.5), spikes_of(6)

    def in_pieces(x):
        state, outputs = None, []
        for piece in x.split(7):
            y, state = net(piece, state)
            outputs.append(y)
        return torch.cat(outputs), state

    found = []
    for run in (lambda x: snn.chunked(net, x, 7), in_pieces):
        torch.manual_seed(3)
        found.append((*results(net, run, x), torch.rand(3)))
    assert_same(*found)
    assert torch.equal(found[0][3], found[1][3])  # the random numbers go on as if nothing had run twice


def test_truncated_gradients_stop_where_chunks_end():
    net, x = mlp(), spikes_of(6)

    def cut(x):
        state, outputs = None, []
        for piece in x.split(5):
            y, state = net(piece, state)
            state = snn.layers.state.map_tensors(torch.Tensor.detach, state)
            outputs.append(y)
        return torch.cat(outputs), state

    truncated, by_hand, whole = (
        results(net, run, x) for run in (lambda x: snn.chunked(net, x, 5, truncate=True), cut, net)
    )
    assert_same(truncated, by_hand)
    assert not torch.allclose(truncated[2][1], whole[2][1], rtol=1e-2)


def test_only_a_chunk_is_kept_for_the_backward():
    net, x, kept = mlp(), spikes_of(6), []

    def keep(tensor):
        kept.append(tensor.nbytes)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        net(x)
        whole = sum(kept)
        kept.clear()
        snn.chunked(net, x, 2)
    assert sum(kept) < whole / 8  # weights, and values of the last chunk, one step of 23


def test_freed_memory_is_handed_back_now_and_then(monkeypatch):
    net, x, calls = mlp(), spikes_of(6).repeat(3, 1, 1), []
    monkeypatch.setattr(process, "hand_back_freed_memory", lambda: calls.append(1))
    y, _ = snn.chunked(net, x, 1)
    assert len(x) == 69 and len(calls) == 2
    y.sum().backward()
    assert len(calls) == 4


def test_without_gradients_nothing_runs_twice():
    net, x, calls = mlp(), spikes_of(6), []
    net[1].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        y, _ = snn.chunked(net, x, 10)
    assert len(calls) == 3 and torch.equal(y, net(x)[0])


class Past(snn.Layer):
    """A layer whose state grows: all of its input so far."""

    def forward(self, x, state=None):
        past = x if state is None else torch.cat([state, x])
        return past.cumsum(0)[-len(x) :], past


def test_a_state_may_grow():
    net, x = snn.Sequential(snn.Linear(6, 4), Past()), spikes_of(6)
    assert_same(results(net, lambda x: snn.chunked(net, x, 5), x), results(net, net, x))


def test_an_output_for_each_step_is_needed():
    class LastStep(snn.Layer):
        def forward(self, x, state=None):
            return x[-1:], ()

    with pytest.raises(ValueError, match="an output for each step; 5 steps gave 1"):
        snn.chunked(LastStep(), spikes_of(6), 5)


class Read:
    """A sequence that is made where it is read, as a file would be."""

    def __init__(self, x):
        self.x, self.shape, self.device, self.read = x, x.shape, x.device, []

    def __getitem__(self, steps):
        self.read.append((steps.start, steps.stop))
        return self.x[steps].clone()


def test_a_sequence_may_be_read_chunk_by_chunk():
    net, x = mlp(), spikes_of(6)
    read = Read(x)
    y, _ = snn.chunked(net, read, 10)
    y.sum().backward()
    assert read.read == [(0, 10), (10, 20), (20, 23), (10, 20), (0, 10)]
    assert torch.equal(y, net(x)[0])


class Recordings(Split):
    """Samples that are read chunk by chunk."""

    def __init__(self, count):
        self.x, self.labels = spikes_of(6)[:, :1].repeat(1, count, 1), torch.arange(count) % 3
        self.x[:, self.labels == 1] *= 3
        self.device, self.length = self.x.device, T

    def __len__(self):
        return len(self.labels)

    def batch(self, indices, generator):
        return Read(self.x[:, indices]), self.labels[indices]


def test_a_split_may_give_sequences_that_are_read(folder):
    splits = {name: Recordings(9) for name in ("train", "dev", "test")}
    config = {
        "experiment_name": "read", "dataset": {"name": "digits"}, "device": "cpu", "ties": "potential",
        "hyperparameters": {"chunk": 5, "epoch": 2, "batch_size": 4},
    }  # fmt: skip
    in_chunks = snn.train(lambda config: mlp(), config, splits=splits)
    for split in splits.values():
        split.batch = lambda indices, _, split=split: (split.x[:, indices], split.labels[indices])
    config["hyperparameters"]["chunk"] = 0
    whole = snn.train(lambda config: mlp(), config, splits=splits)
    for row, expected in zip(in_chunks.metrics, whole.metrics, strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
        assert row["dev_acc"] == expected["dev_acc"]


def test_a_run_whose_sequences_are_read_resumes(folder):
    splits, words = {name: Recordings(9) for name in ("train", "dev")}, ["states=preserved", "hyperparameters.chunk=5"]

    def trainer(epochs, resume_from=None):
        settings = resolve(*words, f"hyperparameters.epoch={epochs}", "hyperparameters.batch_size=4")
        return Trainer(mlp(), splits, settings, Classification(), resume_from)

    trainer(1).fit()
    again = trainer(2, torch.load("checkpoint/snn_mlp_1/last.pt", weights_only=True))
    again.fit()
    assert len(again.history) == 2


class State(NamedTuple):
    v: torch.Tensor
    before: tuple


class Named(snn.Layer):
    def forward(self, x, state=None):
        v = state.v if state else torch.zeros_like(x[0])
        return x.cumsum(0) + v, State(x.sum(0) + v, (x[-1],))


def test_a_state_may_be_a_named_tuple():
    net, x = snn.Sequential(Named()), spikes_of(6)
    y, (state,) = snn.chunked(net, x, 5)
    torch.testing.assert_close(y, net(x)[0])
    assert torch.equal(state.before[0], x[-1])
    preserved = Preserved()
    preserved.keep(net(x)[1])
    assert torch.equal(preserved.take(2)[0].v, x.sum(0)[:2])


def test_a_run_with_a_named_tuple_resumes(folder):
    splits = {name: Recordings(9) for name in ("train", "dev")}
    for split in splits.values():
        split.batch = lambda indices, _, split=split: (split.x[:, indices], split.labels[indices])

    def trainer(epochs, resume_from=None):
        settings = resolve("states=preserved", f"hyperparameters.epoch={epochs}", "hyperparameters.batch_size=4")
        net = snn.Sequential(Named(), snn.Linear(6, 3), snn.SpikingNeuron(4))
        return Trainer(net, splits, settings, Classification(), resume_from)

    trainer(1).fit()
    again = trainer(2, torch.load("checkpoint/snn_mlp_1/last.pt", weights_only=True))
    assert isinstance(again.preserved.state[0], State)
    again.fit()
    assert len(again.history) == 2


def test_what_is_watched_is_seen_once_and_whole():
    net, x, found = mlp(), spikes_of(6), []
    for run in (net, lambda x: snn.chunked(net, x, 4)):
        with snn.record(net, steps=slice(2, 20, 3)) as trace, spikes_counted(net) as counts:
            run(x)[0].sum().backward()
        found.append((trace, counts))
    (expected, counts), (trace, in_chunks) = found
    assert vars(trace).keys() == {"psp", "spikes", "y", "v", "reset"}
    for name, by_layer in vars(expected).items():
        for layer, values in by_layer.items():
            assert len(values) == 6 and torch.equal(values, getattr(trace, name)[layer])
    assert all(torch.equal(of_layer, in_chunks[name]) and of_layer.any() for name, of_layer in counts.items())


def test_the_backward_runs_a_chunk_as_it_ran_first():
    """Layers that are watched run alone, others in one loop: also if the backward comes when no one looks any more."""
    net, x = mlp(), spikes_of(6)

    def watched(x):
        with snn.record(net, what=["spikes"]):
            return snn.chunked(net, x, 5)

    assert_same(results(net, watched, x), results(net, net, x))
    y, _ = snn.chunked(net, x, 5)
    with snn.record(net, what=["spikes"]):
        y.sum().backward()


def test_a_second_backward():
    net, x = mlp(), spikes_of(6)
    y, _ = snn.chunked(net, x, 5)
    first, second = (torch.autograd.grad(y.sum(), net[1].weight, retain_graph=True)[0] for _ in range(2))
    assert first.any() and torch.equal(first, second)


def test_another_threads_chunks_and_hooks_are_its_own():
    """A backward that runs a chunk again in one thread must not blind another's recorder, nor must this see that."""
    net, other, x, seen = mlp(), mlp(), spikes_of(6), []

    def record_meanwhile(*_):
        with ThreadPoolExecutor(1) as pool:
            with snn.record(net) as mine:
                pool.submit(net, x[:3]).result()
            seen.append((mine, pool.submit(recorded).result()))

    def recorded():
        with snn.record(net) as trace:
            net(x)
        return trace

    y, _ = snn.chunked(other, x, 5)
    handle = other[0].register_forward_hook(record_meanwhile)  # the backward calls it
    y.sum().backward()
    handle.remove()
    with snn.record(net) as expected:
        net(x)
    assert seen
    for mine, trace in seen:
        assert not mine.spikes  # of what another thread ran
        assert all(torch.equal(value, trace.spikes[name]) for name, value in expected.spikes.items())


def test_steps_from_the_end_are_unknown_in_chunks():
    net = mlp()
    with snn.record(net, steps=slice(-3, None)), pytest.raises(ValueError, match="counted from the end"):
        snn.chunked(net, spikes_of(6), 4)


@pytest.mark.parametrize("steps", [0, -1, 2.5, "many", True, None])
def test_other_chunks_are_refused(steps):
    with pytest.raises(ValueError, match="give a whole number above 0, or 'auto'"):
        snn.chunked(mlp(), spikes_of(6), steps)
    with pytest.raises(ValueError, match="0 steps"):
        snn.chunked(mlp(), spikes_of(6)[:0], 3)


def test_outputs_of_another_type_after_the_first_chunk_are_refused():
    class Doubles(snn.Layer):
        def forward(self, x, state=None):
            return (x if state is None else x.double()), ()

    with pytest.raises(ValueError, match=r"the first gave \[\d+, \d+\] in torch.float32, .* in torch.float64"):
        snn.chunked(Doubles(), spikes_of(6), 4)


def test_batchnorm_in_training_is_refused():
    net, x = snn.Sequential(snn.DualExpIIR(3, 4, 1), nn.BatchNorm1d(3)), torch.rand(6, 2, 3)
    with pytest.raises(snn.UserError, match="BatchNorm in training takes the mean of all steps"):
        snn.chunked(net, x, 2)
    assert snn.chunked(net, x, 6)[0].shape == x.shape
    assert torch.equal(snn.chunked(net.eval(), x, 2)[0], net(x)[0])


@pytest.mark.parametrize("state", [3, {"h": torch.zeros(2, 3)}])
def test_a_state_of_something_else_is_refused(state):
    class Counted(snn.Layer):
        def forward(self, x, _=None):
            return x, (torch.zeros(2, 3), state)

    with pytest.raises(snn.UserError, match=f"a layer's state holds a {type(state).__name__}: it can be a tensor"):
        snn.chunked(Counted(), torch.rand(6, 2, 3), 2)


def test_a_layer_that_needs_the_whole_sequence_is_refused():
    class Mean(snn.Layer):
        def forward(self, x, state=None):
            return x - x.mean(0), None

    x = spikes_of(6)
    class Around(torch.nn.Module):
        def forward(self, x, state=None):
            return Mean()(x)

    for net in (Mean(), Around(), snn.Sequential(mlp(), Mean()), snn.Sequential(snn.Sequential(Mean()), mlp())):
        with pytest.raises(ValueError, match="(Mean|Around).* returns no state to go on from"):
            snn.chunked(net, x, 4)
        assert torch.equal(snn.chunked(net, x, len(x))[0], net(x)[0])


def small(**hyperparameters):
    return nested(TINY | {f"hyperparameters.{name}": value for name, value in hyperparameters.items()})


@pytest.mark.parametrize("key, rate_loss", [("chunk", 0), ("chunk", 0.1), ("truncate", 0)])
def test_training_in_chunks(folder, key, rate_loss):
    runs = [snn.train("snn_mlp_1", small(dropout=0, rate_loss=rate_loss, **{key: steps})) for steps in (0, 4)]
    whole, chunked = ([row["train_loss"] for row in run.metrics] for run in runs)
    if key == "chunk":
        assert chunked == pytest.approx(whole, rel=1e-5)
    else:
        assert chunked[0] != whole[0] and chunked[-1] == pytest.approx(whole[-1], rel=0.2)


def test_evaluation_in_chunks_is_that_of_the_whole(run, folder):
    run("snn_mlp_1", "--train")
    words = "snn_mlp_1", "--test", "--set", "ties=potential"
    assert run(*words)[-1] == run(*words, "--set", "hyperparameters.chunk=3")[-1]


def test_a_run_in_chunks_resumes(run, folder):
    settings = TINY | {"hyperparameters.chunk": "auto"}
    run("snn_mlp_1", "--train", settings=settings)
    whole = run.metrics("snn_mlp_1")
    run.folder = folder / "again"
    run.folder.mkdir()
    run.monkeypatch.chdir(run.folder)
    run("snn_mlp_1", "--train", settings=settings | {"hyperparameters.epoch": 1})
    run("snn_mlp_1", "--train", "--resume", settings=settings)
    assert run.metrics("snn_mlp_1") == whole


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"chunk": 4, "truncate": 4}, "chunk: 4 is not allowed with hyperparameters.truncate"),
        ({"chunk": "some"}, "chunk: 'some' is not allowed; use a whole number, at least 0, or auto"),
        ({"truncate": -1}, "truncate: -1 is not allowed"),
    ],
)
def test_keys_that_are_refused(run, settings, message):
    run("snn_mlp_1", "--train", settings={f"hyperparameters.{key}": value for key, value in settings.items()})
    assert run.status == 2 and message in run.err and len(run.err.splitlines()) == 1
