"""What drives a network's output neurons: their potential without resets, which decides between equal spike counts."""

from contextlib import contextmanager

from snn.layers.layer import hooked, output_name


@contextmanager
def recorded(net):
    """In the block, `net(x)` appends to the yielded list what drives its output, of the output's shape.

    That is the input current of its last layer of neurons, as the layers behind them, such as pooling, pass it on.
    Nothing is appended if `net` is no sequence of layers, or none of them spikes.
    """
    layers = list(net.children())
    last = max((n for n, layer in enumerate(layers) if output_name(layer) == "spikes"), default=None)
    found = []
    if last is None:
        yield found
        return

    def keep(_, __, arguments, output):
        drive = arguments[0].detach().float()
        for layer in layers[last + 1 :]:
            drive = layer(drive.flatten(0, 1)).unflatten(0, drive.shape[:2])
        found.append(drive)

    with hooked({str(last): layers[last]}, keep):
        yield found


def less_than_a_spike(drive):
    """Return values `[*, classes]` in the order of `drive`, below what spike counts, also averaged ones, differ by."""
    return drive.argsort(-1).argsort(-1) / drive.shape[-1] / 1000
