"""TensorBoard's files of a run."""

import sys

from torch.nn.utils import get_total_norm

from snn.layers.synapses import coefficient_names

EPOCHS_BETWEEN_PICTURES = 10


class Board:
    """What TensorBoard shows of a training; what can't be written is one note, and the training goes on without it.

    Args:
        folder: of the run.
        first_epoch: what later epochs wrote before the training was killed is written again.
    """

    def __init__(self, folder, first_epoch):
        self.folder, self.first_epoch, self.writer = folder, first_epoch, None

    def __enter__(self):
        from torch.utils.tensorboard import SummaryWriter  # seconds to import, and only trainings need it

        def start():
            self.writer = SummaryWriter(self.folder, purge_step=self.first_epoch)

        self._try(start)
        return self

    def __exit__(self, *_):
        if self.writer:
            self._try(self.writer.close)

    def write(self, entry, samples, dev, net, config, picture):
        """An epoch: every time scalars, once in a while histograms and a picture.

        Args:
            entry: the epoch's line of metrics.csv, a dict.
            samples: how many it took.
            dev: its Result on dev.
            picture: gives (name, figure), or None.
        """
        if self.writer:
            self._try(self._write, entry, samples, dev, net, config, picture)

    def add_pictures(self, pictures):
        """Pictures that are of no epoch: (function, caption) by name."""
        for name, (make, _) in pictures.items():
            if self.writer:
                self._try(lambda name=name, make=make: self.writer.add_figure(name, make()))

    def _write(self, entry, samples, dev, net, config, picture):
        epoch = entry["epoch"]
        for key, value in entry.items():
            self.writer.add_scalar(key, value, epoch)
        self.writer.add_scalar("samples_per_second", samples / entry["seconds"], epoch)
        gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
        if gradients:  # there are none where the epoch was resumed on dev
            self.writer.add_scalar("gradient_norm_of_last_batch", get_total_norm(gradients), epoch)
        steps = dev.total * config["hyperparameters"]["length"]
        for name, spikes in dev.spikes.items():
            self.writer.add_scalar(f"firing_rate/layer_{name}", spikes.double().mean() / steps, epoch)
            self.writer.add_scalar(f"silent_neurons/layer_{name}", (spikes == 0).double().mean(), epoch)
        if epoch % EPOCHS_BETWEEN_PICTURES == 0 or epoch + 1 == config["hyperparameters"]["epoch"]:
            for name in sorted(coefficient_names(net)):
                self.writer.add_histogram(name, net.get_parameter(name), epoch)
            if drawn := picture():
                self.writer.add_figure(*drawn, epoch)
        self.writer.flush()

    def _try(self, function, *arguments):
        """Call a function; if it raises, say so in one line."""
        try:
            function(*arguments)
        except Exception as error:  # drawing raises anything; a training is worth more than its pictures
            if isinstance(error, OSError):
                self.writer = None
            what = "TensorBoard's files can't be written" if isinstance(error, OSError) else "no picture in TensorBoard"
            print(f"note: {what}: {' '.join(str(error).split())}; the training goes on", file=sys.stderr)
