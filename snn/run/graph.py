"""Steps as CUDA graphs: small networks take longer to launch their kernels than to run them."""

from contextlib import contextmanager

import torch
from torch.nn.parallel import DistributedDataParallel

from snn.base.output import note
from snn.layers.layer import is_watched


class StepGraph:
    """A step, or an evaluation; for batches of one size it replays a CUDA graph, recorded at the first of them.

    A graph repeats the kernels of the step that was recorded: what Python decides stays as it was then, except for the
    learning rate. Recording changes neither the network, nor the optimizer, nor the random numbers. If it fails, all
    steps run without it, after a line on stderr.

    Args:
        step: from x `[T, B, *]`, targets, an initial state and, in training, this rank's share of the batch to tensors,
            nested in tuples and dicts; it also calls `optimizer.step()`.
        net, optimizer: what it trains, on one CUDA device; the optimizer is a fused one, or None.
        batch_size: of the batches that replay the graph; they start from zero, and are not shared.
    """

    def __init__(self, step, net, optimizer, batch_size):
        self.step, self.net, self.optimizer, self.batch_size = step, net, optimizer, batch_size
        self.device = next(net.parameters()).device
        self.groups = optimizer.param_groups if optimizer else []
        self.lr = [torch.zeros((), device=self.device) for _ in self.groups]
        self.graph = self.kind = self.x = self.targets = self.results = None
        self.failed = False

    def __call__(self, x, targets, state=None, *share):
        """Run the step and return its results, which the next call may overwrite."""
        stored = x[:1] if x.stride(0) == 0 else x
        kind = len(stored), x.shape, x.dtype, targets.shape, targets.dtype
        fits = x.shape[1] == self.batch_size and state is None and share in ((), (1,)) and self.kind in (None, kind)
        if self.failed or not fits or not (self.graph or self._record(kind, stored, x, targets)):
            return self.step(x, targets, state, *share)
        self.x.copy_(stored)
        self.targets.copy_(targets)
        for tensor, group in zip(self.lr, self.groups):
            tensor.fill_(group["lr"])
        self.graph.replay()
        return self.results

    def _record(self, kind, stored, x, targets):
        """Record the graph for batches of x's kind; `stored` are its steps that differ. Return whether that worked."""
        self.kind, self.x, self.targets = kind, stored.clone(), targets.clone()
        x, graph = self.x.expand_as(x), None
        try:
            with torch.cuda.device(self.device), self._nothing_changed(), self._capturable():
                aside = torch.cuda.Stream()
                aside.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(aside):
                    self.step(x, self.targets)  # libraries allocate, and kernels are compiled, at their first call
                    with _no_waiting():
                        self.step(x, self.targets)
                stream = torch.cuda.current_stream()
                stream.wait_stream(aside)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self.results = self.step(x, self.targets)
                self.graph = graph
        except Exception as error:  # what a layer does, the driver, memory: anything
            self.failed, self.x, self.targets, self.results = True, None, None, None
            if graph:
                self._end_capture(stream)
            reason = " ".join(str(error).split())[:300]
            note(f"steps run without a CUDA graph, which is slower: {reason}")
        return not self.failed

    def _end_capture(self, stream):
        """Go back to the stream and the random numbers from before: a failed capture leaves both as if it went on."""
        torch.cuda.set_stream(stream)
        torch.cuda.synchronize(self.device)
        generator = torch.cuda.default_generators[self.device.index or 0]
        generator.graphsafe_set_state(torch.Generator(self.device).set_state(generator.get_state()))

    @contextmanager
    def _capturable(self):
        """Let the optimizer's step read its learning rates from the device."""
        kept = [group.copy() for group in self.groups]
        for group, lr in zip(self.groups, self.lr):
            group.update({"lr": lr} | ({"capturable": True} if "capturable" in group else {}))
        try:
            yield
        finally:
            for group, before in zip(self.groups, kept):
                group.update(before)

    @contextmanager
    def _nothing_changed(self):
        """Take back all changes of the network, the optimizer and the random numbers."""
        values = [*self.net.parameters(), *self.net.buffers(), *self._moments()]
        before, random = [value.detach().clone() for value in values], torch.cuda.get_rng_state(self.device)
        try:
            yield
        finally:
            known = {id(value) for value in values}
            with torch.no_grad():
                for value, old in zip(values, before):
                    value.copy_(old)
                for value in self._moments():
                    if id(value) not in known:  # made by the first step
                        value.zero_()
            torch.cuda.set_rng_state(random, self.device)  # last: after a failed capture it may raise

    def _moments(self):
        """Return the optimizer's tensors, among them whether a batch has failed."""
        if not self.optimizer:
            return []
        states = [*self.optimizer.state.values(), {"found_inf": getattr(self.optimizer, "found_inf", None)}]
        return [value for state in states for value in state.values() if torch.is_tensor(value)]


@contextmanager
def _no_waiting():
    """Raise RuntimeError where something waits for the device, which a capture would not survive."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def with_graph(step, net, optimizer, config, task):
    """Return `step`, with a CUDA graph if `config["cuda_graph"]` asks for one and it computes the same.

    Python code in a layer, a surrogate or a task runs once for a graph, not at every batch: so `auto` takes one only
    for those of this project and of torch.
    """
    device, wish = next(net.parameters()).device, config["cuda_graph"]
    if device.type != "cuda" or wish == "never":
        return step
    in_chunks = config["hyperparameters"]["chunk"] or config["hyperparameters"]["truncate"]
    if isinstance(net, DistributedDataParallel) or config["states"] == "preserved" or in_chunks:
        if wish == "always" and optimizer:
            note("no CUDA graph, since several ranks, preserved states, or chunks run without it")
        return step
    parts = [*net.modules(), task]
    parts += [layer.surrogate for layer in net.modules() if hasattr(layer, "surrogate")]
    others = [type(part).__name__ for part in parts if type(part).__module__.split(".")[0] not in ("snn", "torch")]
    if wish == "auto" and (others or any(map(is_watched, net.modules()))):
        if optimizer:
            which = f"{others[0]} is not of this project" if others else "a hook watches a layer"
            note(f"no CUDA graph, since {which}: set cuda_graph to always to take one")
        return step
    return StepGraph(step, net, optimizer, config["hyperparameters"]["batch_size"])
