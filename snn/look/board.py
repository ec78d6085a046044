"""The TensorBoard files of a run."""

from contextlib import contextmanager

import numpy as np
from PIL import Image

from snn.base.output import note
from snn.layers.synapses import coefficient_names
from snn.look.health import gradient_norms
from snn.look.labels import layer_labels

EPOCHS_BETWEEN_PICTURES = 10


class Board:
    """What TensorBoard shows of a run; a failed write prints one note, and the run continues without it.

    Args:
        folder: of the run.
        first_epoch: epochs from here on, which a killed run may have written already, are written again.
    """

    def __init__(self, folder, first_epoch):
        self.folder, self.first_epoch, self.writer = folder, first_epoch, None

    def __enter__(self):
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import, and only runs need it

        with self._noted():
            self.writer = SummaryWriter(self.folder, purge_step=self.first_epoch)
        return self

    def __exit__(self, *_):
        if self.writer:
            with self._noted():
                self.writer.close()

    def write(self, entry, samples, dev, length, net, config, picture, norm):
        """Write an epoch: scalars always, histograms and a picture now and then.

        Args:
            entry: the epoch's row of metrics.csv, a dict.
            samples: number of samples it processed.
            dev: its Result on dev.
            length: time steps of each sample.
            picture: returns (name, figure), or None.
            norm: of the last batch's gradient, before it was clipped.
        """
        if not self.writer:
            return
        with self._noted():
            epoch, labels = entry["epoch"], layer_labels(net)
            for key, value in entry.items():
                self.writer.add_scalar(key, value, epoch)
            self.writer.add_scalar("samples_per_second", samples / entry["seconds"], epoch)
            gradients = {name: value.grad for name, value in net.named_parameters() if value.grad is not None}
            if gradients:  # there are none if the epoch was resumed on dev
                self.writer.add_scalar("gradient_norm_of_last_batch", norm, epoch)
                clipped = "clipped_" if config["optimizer"]["clip"] else ""
                for name, of_layer in gradient_norms(gradients).items():
                    self.writer.add_scalar(f"{clipped}gradient_norm/{labels[name]}", of_layer, epoch)
            steps = dev.total * length
            for name, spikes in dev.spikes.items():
                self.writer.add_scalar(f"firing_rate/{labels[name]}", spikes.double().mean() / steps, epoch)
                self.writer.add_scalar(f"silent_neurons/{labels[name]}", (spikes == 0).double().mean(), epoch)
            if epoch % EPOCHS_BETWEEN_PICTURES == 0 or epoch + 1 == config["hyperparameters"]["epoch"]:
                for name in sorted(coefficient_names(net)):
                    self.writer.add_histogram(name, net.get_parameter(name), epoch)
                if drawn := picture():
                    self.writer.add_figure(*drawn, epoch)
            self.writer.flush()

    def add_pictures(self, files):
        """Add PNG files as pictures that belong to no epoch."""
        for file in files:
            if self.writer:
                with self._noted():
                    self.writer.add_image(file.stem, np.asarray(Image.open(file).convert("RGB")), dataformats="HWC")

    @contextmanager
    def _noted(self):
        """Print one line if the block raises."""
        try:
            yield
        except Exception as error:  # drawing may raise anything; a run is worth more than its pictures
            what = "no picture in TensorBoard"
            if isinstance(error, OSError):
                self.writer, what = None, "TensorBoard's files can't be written"
            note(f"{what}: {' '.join(str(error).split())}; the run continues")
