"""Images: splits, augmentation against torchvision, encoders, and MNIST that is missing or broken."""

import gzip
import math
import os
import struct

import pytest
import torch
from scripts import ROOT, files_in
from test_config import resolve
from torch.utils.data import random_split

from snn import config
from snn.base.errors import UserError
from snn.data import augment, base, digits, images, mnist

CPU = torch.device("cpu")
CONFIG = ROOT / "configs/snn_mlp_1.yaml"
TRANSFORM = {
    "RandomApply": {"probability": 0.5},
    "RandomResizedCrop": {"scale": [0.85, 1.0], "ratio": [3 / 4, 4 / 3], "interpolation": "bilinear"},
    "RandomRotation": {"angle": 15},
}
try:
    from torchvision import datasets as _  # noqa: F401
    from torchvision.transforms import InterpolationMode, RandomResizedCrop
    from torchvision.transforms import functional as tv
except Exception:
    tv = None
needs_torchvision = pytest.mark.skipif(tv is None, reason="torchvision does not import with this build of torch")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_digits(count):
    return digits.read()[1][0][:count].float()


class TestSplits:
    def load(self, *overrides):
        settings = config.resolve(CONFIG, overrides=["dataset.name=digits", *overrides])
        return images.load(settings, CPU, (784,))

    def test_train_and_dev_are_the_split_of_seed_42(self):
        splits, note = self.load()
        (all_images, labels), _ = digits.read()
        train, dev = random_split(range(1437), (1257, 180), generator(42))
        assert torch.equal(splits["train"].images, all_images[train.indices])
        assert torch.equal(splits["dev"].labels, labels[dev.indices])
        assert {name: len(split) for name, split in splits.items()} == {"train": 1257, "dev": 180, "test": 360}
        assert note == "embedded digits"

    def test_sizes(self):
        splits, _ = self.load("dataset.train_size=10", "dataset.test_size=3")
        assert [len(split) for split in splits.values()] == [10, 180, 3]

    def test_a_part_of_the_test_set_is_from_all_of_it_in_its_order(self):
        whole, part = (self.load(f"dataset.test_size={size}")[0]["test"] for size in (0, 9))
        places = [(whole.images == image).all((1, 2)).nonzero().item() for image in part.images]
        assert places == sorted(set(places)) and places[-1] > 100
        assert torch.equal(part.labels, whole.labels[places])

    def test_train_and_dev_are_augmented_and_test_is_not(self):
        splits, _ = self.load("transform.RandomApply.probability=1", "hyperparameters.length=1")
        for name, split in splits.items():
            x, labels = next(split.batches(50, generator()))
            original = split.images[:50].float().div(255).view(50, 784)
            assert torch.equal(x[0], original) == (name == "test")
            assert torch.equal(labels, split.labels[:50])

    def test_every_image_comes_once_and_the_last_batch_may_be_smaller(self):
        split = images.ImageSplit(
            torch.arange(100, dtype=torch.uint8)[:, None, None].expand(-1, 28, 28),
            torch.arange(100),
            lambda batch, _: images.copy(batch, 2),
            (1, 28, 28),
        )
        batches = list(split.batches(3, generator(), shuffle=True))
        assert [len(labels) for _, labels in batches] == 33 * [3] + [1]
        assert batches[0][0].shape == (2, 3, 1, 28, 28)
        order = torch.cat([labels for _, labels in batches])
        assert order.tolist() != list(range(100))
        assert order.sort().values.tolist() == list(range(100))
        for x, labels in batches:
            assert torch.equal(x[1, :, 0, 5, 5].mul(255).round().long(), labels)


class TestEncoders:
    def test_copy(self):
        x = torch.rand(3, 5)
        assert torch.equal(images.copy(x, 4), torch.stack([x] * 4))

    @pytest.mark.parametrize("max_rate", [1.0, 0.4])
    def test_poisson_rates(self, max_rate):
        x = torch.tensor([0.0, 0.1, 0.5, 1.0])
        spikes = images.poisson(x, 40_000, max_rate, generator())
        assert set(spikes.unique().tolist()) <= {0, 1}
        p = x * max_rate
        assert ((spikes.mean(0) - p).abs() <= 5 * (p * (1 - p) / 40_000).sqrt()).all()

    def test_poisson_draws_every_step_and_sample_anew(self):
        spikes = images.poisson(torch.full((2, 500), 0.5), 2, generator=generator())
        agree = (spikes[0] == spikes[1]).float().mean(), (spikes[:, 0] == spikes[:, 1]).float().mean()
        assert all(0.4 < share < 0.6 for share in agree)


@needs_torchvision
class TestAugmentationAgainstTorchvision:
    @pytest.mark.parametrize("interpolation, theirs", [("bilinear", "bilinear"), ("nearest", "nearest-exact")])
    def test_crop(self, interpolation, theirs):
        batch = some_digits(60)
        boxes = augment.random_crop_boxes(batch, (0.3, 1.0), (3 / 4, 4 / 3), generator(1))
        mine = augment.resized_crop(batch, *boxes, interpolation)
        for image, result, *box in zip(batch, mine, *boxes):
            top, left, height, width = (int(side) for side in box)
            expected = tv.resized_crop(
                image[None].byte(), top, left, height, width, [28, 28], InterpolationMode(theirs), antialias=False
            )[0]
            difference = (result - expected.float()).abs()
            assert difference.max() <= 1  # a tie may round either way
            assert (difference > 0).float().mean() < 0.02

    def test_rotation(self):
        batch = some_digits(60)
        angles = torch.linspace(-180, 180, 60)
        mine = augment.rotate(batch, angles)
        for image, result, angle in zip(batch, mine, angles):
            expected = tv.rotate(image[None].byte(), angle.item(), InterpolationMode.NEAREST)[0]
            assert (result != expected).float().mean() < 0.01  # pixels halfway between two others

    @pytest.mark.parametrize("scale, ratio", [((0.85, 1.0), (3 / 4, 4 / 3)), ((0.9, 1.0), (2.5, 3.0))])
    def test_distribution_of_the_boxes(self, scale, ratio):
        count = 4000
        image = torch.zeros(1, 28, 28)
        theirs = torch.tensor([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)]).float()
        mine = torch.stack(augment.random_crop_boxes(image.expand(count, -1, -1), scale, ratio, generator()), 1)
        error = 5 * theirs.std(0) * math.sqrt(2 / count) + 1e-6
        assert ((mine.mean(0) - theirs.mean(0)).abs() <= error).all()
        torch.testing.assert_close(mine.std(0), theirs.std(0), rtol=0.1, atol=1e-6)


class TestAugmentation:
    def test_share_of_changed_images(self):
        batch = some_digits(360).repeat(5, 1, 1)
        changed = (augment.RandomAugment(TRANSFORM)(batch.clone(), generator()) != batch).flatten(1).any(1)
        assert abs(changed.float().mean() - 0.5) < 5 * 0.5 / math.sqrt(len(batch))

    def test_every_image_has_parameters_of_its_own(self):
        batch = some_digits(1).repeat(20, 1, 1)
        result = augment.RandomAugment(TRANSFORM | {"RandomApply": {"probability": 1}})(batch, generator())
        assert len(result.unique(dim=0)) == 20

    def test_a_box_that_never_fits(self):
        boxes = augment.random_crop_boxes(torch.zeros(2, 20, 40), (1, 1), (1, 1), generator())
        assert torch.stack(boxes).tolist() == [[0, 0], [10, 10], [20, 20], [20, 20]]


def write_mnist(root, train=60_000, test=10_000):
    """Write blank images under the names of MNIST's files."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + bytes(count * 784))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + bytes(count))
    return raw


@needs_torchvision
class TestMNIST:
    def test_shapes(self, tmp_path):
        write_mnist(tmp_path)
        (train, train_labels), (test, test_labels) = mnist.read(tmp_path, download=False)
        assert (train.shape, train_labels.shape, train.dtype) == ((60_000, 28, 28), (60_000,), torch.uint8)
        assert (test.shape, test_labels.shape, test_labels.dtype) == ((10_000, 28, 28), (10_000,), torch.int64)

    def test_absent(self, tmp_path):
        with pytest.raises(UserError, match="MNIST is not in .*download"):
            mnist.read(tmp_path / "data", download=False)
        assert list(tmp_path.iterdir()) == []

    def test_absent_without_a_network(self, tmp_path, monkeypatch):
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/"])
        with pytest.raises(UserError, match="can't be downloaded .*--demo needs no data") as error:
            mnist.read(tmp_path / "data")
        assert "\n" not in str(error.value)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", mnist.FILES)
    @pytest.mark.parametrize("keep", [0, 6, 12])
    def test_cut_short(self, tmp_path, monkeypatch, name, keep):
        monkeypatch.setattr(mnist, "COUNTS", {"train": 60, "t10k": 10})
        raw = write_mnist(tmp_path, 60, 10)
        (raw / name).write_bytes((raw / name).read_bytes()[:keep])
        with pytest.raises(UserError, match="MNIST is broken.*delete it, and MNIST is") as error:
            mnist.read(tmp_path)
        assert str(raw / name) in str(error.value)
        assert "\n" not in str(error.value)
        assert sorted(path.name for path in raw.iterdir()) == sorted(mnist.FILES)

    def test_another_dataset_of_that_name(self, tmp_path):
        write_mnist(tmp_path, train=50)
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte \(it does not hold 60000 x 28 x 28 values\)"):
            mnist.read(tmp_path)

    def test_as_distributed(self, tmp_path):
        """The four .gz are read; a changed byte is noticed; what an older torchvision left in processed/ never wins."""
        raw = write_mnist(tmp_path)
        (tmp_path / "MNIST/processed").mkdir()
        for name in ("training.pt", "test.pt"):
            torch.save((torch.ones(3, 28, 28).byte(), torch.ones(3).long()), tmp_path / "MNIST/processed" / name)
        for name in mnist.FILES:
            (raw / f"{name}.gz").write_bytes(gzip.compress((raw / name).read_bytes(), 1))
            (raw / name).unlink()
        (train, _), (test, _) = mnist.read(tmp_path, download=False)
        assert (len(train), len(test)) == (60_000, 10_000)
        packed = raw / f"{mnist.FILES[3]}.gz"
        content = bytearray(packed.read_bytes())
        content[-6] ^= 1  # of the checksum
        packed.write_bytes(content)
        with pytest.raises(UserError, match="t10k-labels-idx1-ubyte.gz .CRC check failed"):
            mnist.read(tmp_path)
        packed.write_bytes(gzip.compress(struct.pack(">2i", 2049, 10_000) + bytes(10_001)))
        with pytest.raises(UserError, match="does not hold 10000 values"):
            mnist.read(tmp_path)

    @pytest.mark.skipif("SNN_DATASETS" not in os.environ, reason="SNN_DATASETS does not name a folder with MNIST/raw")
    def test_the_real_one(self):
        settings = config.resolve(CONFIG, overrides=[f"dataset.root={os.environ['SNN_DATASETS']}"])
        splits, _ = images.load(settings, CPU, (784,))
        assert [len(split) for split in splits.values()] == [50_000, 10_000, 10_000]
        assert splits["test"].labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        counts = (splits["train"].labels.bincount() + splits["dev"].labels.bincount()).tolist()
        assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.mark.parametrize("count, probability", [(0, 0.5), (1, 0.0), (5, 0.0), (1, 1e-6)])
def test_augmenting_nothing(count, probability):
    transform = resolve()[0]["transform"] | {"RandomApply": {"probability": probability}}
    images = torch.rand(count, 28, 28) * 255
    again = augment.RandomAugment(transform)(images.clone(), torch.Generator().manual_seed(0))
    assert torch.equal(again, images)


@pytest.mark.parametrize(
    "script, encoding, gives, takes",
    [
        ("snn_mlp_1", "pixels", 1, 784),
        ("snn_conv_1_mnist", "permuted", 1, 784),
        ("sequential_mnist", "poisson", 784, 1),
    ],
)
def test_an_encoding_for_another_network_is_one_line(run, script, encoding, gives, takes):
    run(script, "--train", settings={"encoding": encoding, "hyperparameters.length": 25})
    said = f"encoding: {encoding} gives {gives} values at a step, and the network takes {takes}"
    assert run.status == 2 and run.err.splitlines()[-1] == f"error: config: {said}"


@pytest.mark.parametrize("settings", [{"transform.RandomApply.probability": 0}, {"dataset.train_size": 257}])
def test_a_batch_in_which_no_image_is_augmented_trains(run, settings):
    run("snn_mlp_1", "--train", settings=settings | {"hyperparameters.epoch": 1, "hyperparameters.length": 4})
    assert run.status == 0, run.err


def test_a_run_does_not_resume_on_other_images(run):
    run("snn_mlp_1", "--train", settings={"hyperparameters.epoch": 1})
    before = files_in(run.folder / "checkpoint")
    with pytest.MonkeyPatch.context() as patch:
        (images, labels), test = digits.read()
        patch.setattr(digits, "read", lambda: ((images, (labels + 1) % 10), test))
        run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 2})
    assert run.status == 2 and "the split train holds other samples" in run.err
    assert files_in(run.folder / "checkpoint") == before
    run("snn_mlp_1", "--train", "--resume", settings={"hyperparameters.epoch": 2})
    assert run.status == 0, run.err


def test_augmentation_is_two_crops_and_rotations_as_the_config_says(monkeypatch):
    drawn, read, angles = [], [], []
    boxes, crop = augment.random_crop_boxes, augment.resized_crop
    monkeypatch.setattr(augment, "random_crop_boxes", lambda *of: drawn.append(of[1:3]) or boxes(*of))
    monkeypatch.setattr(augment, "resized_crop", lambda *of: read.append(of[5:]) or crop(*of))
    monkeypatch.setattr(augment, "rotate", lambda batch, angle: angles.append(angle) or batch)
    nearest = {"scale": [0.5, 0.6], "ratio": [0.8, 0.9], "interpolation": "nearest"}
    transform = {"RandomApply": {"probability": 1}, "RandomResizedCrop": nearest, "RandomRotation": {"angle": 20}}
    augment.RandomAugment(transform)(torch.rand(500, 28, 28), generator())
    assert drawn == [([0.5, 0.6], [0.8, 0.9])] * 2 and read == [("nearest",)] * 2
    angles = torch.cat(angles)
    assert len(angles) == 1000 and -20 <= angles.min() < -19 and 19 < angles.max() <= 20


def test_the_config_says_how_often_a_white_pixel_spikes():
    settings, _ = resolve("encoding=poisson", "mnist_config.max_rate=0.25", "hyperparameters.length=50")
    spikes = images.encoder(settings, torch.device("cpu"))(torch.ones(20, 784), generator())
    assert spikes.mean().item() == pytest.approx(0.25, abs=0.01)


def test_a_fingerprint_sees_the_end_of_the_data():
    values = torch.zeros(3 * base.END, dtype=torch.uint8)
    before = base.fingerprint(1, values)
    values[-1] = 1
    assert base.fingerprint(1, values) != before
