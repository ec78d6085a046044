"""The associative memory: patterns, corruption, scores of recall, and what is refused."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import ROOT

import snn
from snn import config
from snn.base import ranks
from snn.base.errors import UserError
from snn.data import patterns
from snn.tasks import recall

CONFIG = ROOT / "configs/associative_memory.yaml"
CPU = torch.device("cpu")
PATTERNS = patterns.read(patterns.SHIPPED, 300)
NOTHING = recall.CLEAN


def load(*overrides):
    return patterns.load(config.resolve(CONFIG, overrides=overrides), CPU, (patterns.TRAINS,))[0]


def corrupt(spikes, seed=0, **corruption):
    return patterns.corrupt(spikes, NOTHING | corruption, torch.Generator().manual_seed(seed))


def test_shipped_patterns_are_thinned_as_in_the_paper():
    assert PATTERNS.shape == (10, 300, 300) and set(PATTERNS.unique().tolist()) == {0, 1}
    _, time, train = PATTERNS.nonzero(as_tuple=True)
    assert (time % 5 == 0).all() and (train % 3 == time // 5 % 3).all()
    assert ((700 < PATTERNS.sum((1, 2))) & (PATTERNS.sum((1, 2)) < 2200)).all()
    assert all((a != b).any() for n, a in enumerate(PATTERNS) for b in PATTERNS[:n])


def test_rule_of_the_thinning_is_that_of_the_papers_patterns():
    root = os.environ.get("SNN_DATASETS")
    if not root:
        pytest.skip("SNN_DATASETS names no folder with associative_target.npy")
    spikes = patterns.read(Path(root) / "associative_target.npy", 300)
    _, time, train = spikes.nonzero(as_tuple=True)
    assert (time % 5 == 0).all() and (train % 3 == time // 5 % 3).all()


def test_every_drawing_of_a_folder_is_read_or_named(folder, capsys):
    drawing = next(patterns.SHIPPED.glob("*.png"))
    for name in ("a.png", "b.PNG", "c.jpg", "notes.txt"):
        shutil.copy(drawing, folder / name)
    assert len(patterns.read(folder, 300)) == 2
    assert "dataset.patterns: only .png files are read, not c.jpg\n" in capsys.readouterr().err


def test_target_is_the_filtered_pattern_four_steps_later():
    split = load()["dev"]
    x, target = next(split.batches(10, None))
    assert x.shape == target.shape == (300, 10, 300)
    time, train = PATTERNS[0].nonzero(as_tuple=True)
    first = time.min()
    assert target[: first + 5, 0].abs().max() == 0 and target[first + 5, 0].max() > 0  # the filter starts at 0
    kernel = 4 ** (4 / 3) / 3 * (np.exp(-np.arange(300) / 8) - np.exp(-np.arange(300) / 2))
    line = int(train[0])
    expected = np.convolve(np.roll(PATTERNS[0, :, line].numpy(), 4), kernel)[:300]
    np.testing.assert_allclose(target[:, 0, line], expected, atol=1e-5)


def test_splits_draw_from_seeds_of_their_own():
    splits = load("dataset.train_size=20", "dataset.dev_size=20", "dataset.test_size=20")
    generator = torch.Generator().manual_seed(2)
    first, second = ({part: next(split.batches(20, generator))[0] for part, split in splits.items()} for _ in range(2))
    for part, again in (("dev", True), ("test", True), ("train", False)):
        assert torch.equal(first[part], second[part]) == again
    assert not torch.equal(first["dev"], first["test"])


def test_every_pattern_comes_equally_often():
    split = load("corruption.noise=0", "corruption.probability=0", "dataset.train_size=40")["train"]
    batches = list(split.batches(16, torch.Generator().manual_seed(0), shuffle=True))
    assert [x.shape[1] for x, _ in batches] == [16, 16, 8]
    x = torch.cat([x for x, _ in batches], 1).transpose(0, 1)
    counts = [(x == pattern).all(2).all(1).sum().item() for pattern in PATTERNS]
    assert counts == [4] * 10
    assert not torch.equal(x[:10], PATTERNS)  # shuffled


class TestCorruption:
    def test_none(self):
        assert torch.equal(corrupt(PATTERNS), PATTERNS)

    def test_jitter_moves_within_the_train_and_stays_in_the_window(self):
        one = torch.zeros(4000, 9, 2)
        one[:, 1, 1] = 1
        moved = corrupt(one, jitter_std=1.0)
        assert moved[..., 0].sum() == 0 and (moved[..., 1].sum(1) == 1).all()
        share = moved[..., 1].mean(0)  # rint(N(0, 1)), -1 and below gathered at the edge
        assert share[:5].tolist() == pytest.approx([0.3085, 0.3829, 0.2417, 0.0606, 0.0060], abs=0.03)

    def test_block(self):
        full = torch.ones(300, 50, 60)
        spikes = corrupt(full, block_probability=1, block_size=20)
        assert ((full - spikes).sum((1, 2)) == 400).all()
        silent = spikes == 0
        assert (silent.any(2).sum(1) == 20).all() and (silent.any(1).sum(1) == 20).all()
        assert silent[:, 0].any() and silent[:, 49].any() and silent[:, :, 0].any() and silent[:, :, 59].any()

    def test_rows(self):
        spikes = corrupt(torch.ones(200, 8, 30), rows=12)
        silent = (spikes == 0).all(1)
        assert (silent.sum(1) == 12).all() and ((spikes == 0).any(1) == silent).all()
        assert silent.float().mean(0).tolist() == pytest.approx([0.4] * 30, abs=0.15)

    def test_noise_also_in_silenced_places(self):
        spikes = corrupt(torch.ones(20, 50, 60), rows=60, noise=0.2)
        assert set(spikes.unique().tolist()) == {0, 1} and spikes.mean().item() == pytest.approx(0.2, abs=0.01)

    def test_shares_of_samples(self):
        settings = {"probability": 0.4, "jitter_probability": 0.7, "jitter_std": 3, "silence_probability": 0.5,
                    "block_probability": 0.5, "rows": 150}  # fmt: skip
        pattern = PATTERNS[:1, ::3, ::3]  # whose trains spike at every 15th step
        spikes = corrupt(pattern.expand(2000, -1, -1).contiguous(), **settings | {"rows": 100})
        silent = (spikes.sum((1, 2)) == 0).float().mean().item()
        changed = (spikes != pattern).any(2).any(1).float().mean().item()
        assert silent == pytest.approx(0.4 * 0.5 * 0.5, abs=0.03)
        assert changed == pytest.approx(
            0.4 * (1 - 0.3 * 0.75), abs=0.05
        )  # jittered or all silenced; blocks of 1 hit little


class TestScores:
    def spikes(self, *places):
        spikes = torch.zeros(20, 1, 3)
        for time, train in places:
            spikes[time, 0, train] = 1
        return spikes

    def test_perfect(self):
        target = self.spikes((3, 0), (9, 1))
        assert recall.scores(target, target, 8) == {"precision": 1, "recall": 1, "f1": 1, "van_rossum": 0}

    def test_within_a_step_of_the_same_train(self):
        found = recall.scores(self.spikes((2, 0), (9, 2), (7, 1)), self.spikes((3, 0), (9, 1), (15, 1), (16, 0)), 8)
        assert found["precision"] == pytest.approx(1 / 3) and found["recall"] == pytest.approx(1 / 4)
        assert found["f1"] == pytest.approx(2 / 7)

    def test_silence(self):
        assert recall.scores(self.spikes(), self.spikes((3, 0)), 8)["f1"] == 0

    def test_van_rossum_of_a_missing_spike(self):
        """In continuous, unlimited time it is 1/2; here, by hand, the sum of e^(-2t/tau) / tau, over three trains."""
        distance = recall.scores(self.spikes(), self.spikes((5, 1)), 2)["van_rossum"]
        assert distance == pytest.approx(sum(np.exp(-2 * t / 2) for t in range(15)) / 2 / 3, rel=1e-5)


def image(pixels):
    return Image.fromarray(np.asarray(pixels, np.uint8))


@pytest.mark.parametrize(
    "content, message",
    [
        (np.zeros((10, 300), np.float32), r"holds \[10, 300\]; \[P, 300, 300\] is needed"),
        (np.zeros((10, 300, 200), np.float32), r"holds \[10, 300, 200\]"),
        (np.full((2, 300, 300), 0.5), "values other than 0 and 1"),
        (np.full((2, 300, 300), np.nan), "values other than 0 and 1"),
        (np.array(["a"] * 300 * 300).reshape(1, 300, 300), "values other than 0 and 1"),
        (np.stack([np.ones((300, 300)), np.zeros((300, 300))]), "pattern 1 is blank"),
        (b"no array", "nor a .npy file"),
        (None, "nor a .npy file"),
    ],
)
def test_bad_arrays(tmp_path, content, message):
    file = tmp_path / "patterns.npy"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        np.save(file, content)
    with pytest.raises(UserError, match=message) as error:
        load(f"dataset.patterns={file}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (image(np.zeros((300, 300))), "0.png is blank"),
        (image(np.full((300, 300), 9)), "0.png is blank"),
        (image(np.ones((200, 300))), "0.png has 300 x 200 pixels, not 300 x 300"),
        (b"\x89PNG\r\n", "0.png is not a readable PNG picture"),
        (None, "holds no .png files"),
    ],
)
def test_bad_drawings(tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / "0.png").write_bytes(content)
    elif content is not None:
        content.save(tmp_path / "0.png")
    with pytest.raises(UserError, match=message):
        load(f"dataset.patterns={tmp_path}")


@pytest.mark.parametrize(
    "override, message",
    [
        ("corruption.block_size=301", "corruption.block_size: 301 is larger than the pattern"),
        ("corruption.rows=301", "corruption.rows: 301 is larger"),
        ("dataset.delay=300", "dataset.delay: 300 is not shorter than the window"),
        ("corruption.noise=1.5", "corruption.noise: 1.5 is not allowed; use a number from 0 to 1"),
        ("hyperparameters.length=200", "0_letter_s.png has 300 x 300 pixels, not 200 x 300"),
    ],
)
def test_what_does_not_fit(override, message):
    with pytest.raises(UserError, match=message):
        load(override)


class TestPictures:
    def drawing(self):
        return np.kron(np.random.default_rng(0).integers(0, 2, (30, 30)) * 200, np.ones((10, 10))).astype(np.uint8)

    def read(self, tmp_path, image, **options):
        image.save(tmp_path / "0.png", "PNG", **options)
        return patterns.read(tmp_path, 300)

    def test_every_mode_gives_the_same_pattern(self, tmp_path):
        grey = self.drawing()
        expected = self.read(tmp_path, Image.fromarray(grey))
        assert expected.sum() > 500
        for image in (
            Image.fromarray(grey.astype(np.uint16) * 257), Image.fromarray(grey).convert("RGB"),
            Image.fromarray(grey).convert("P"), Image.fromarray(grey).convert("RGBA"),
            Image.fromarray(grey).convert("LA"),
            Image.fromarray(grey > 100),
        ):  # fmt: skip
            assert torch.equal(self.read(tmp_path, image), expected), image.mode

    def test_transparency_is_refused(self, tmp_path):
        image = Image.fromarray(self.drawing()).convert("RGBA")
        image.putalpha(128)
        with pytest.raises(UserError, match="0.png has transparent pixels"):
            self.read(tmp_path, image)

    def test_another_format_under_that_name_is_not_decoded(self, tmp_path):
        content = io.BytesIO()
        Image.fromarray(self.drawing()).save(content, "EPS")
        (tmp_path / "0.png").write_bytes(content.getvalue())
        with pytest.raises(UserError, match="0.png is not a readable PNG picture"):
            patterns.read(tmp_path, 300)


def test_other_patterns_are_another_fingerprint():
    made = [
        patterns.PatternSplit((torch.arange(24).view(2, 3, 4) % k == 0).float(), torch.rand(2, 3, 4), 5, {})
        for k in (2, 2, 3)
    ]
    assert made[0].fingerprint() == made[1].fingerprint() != made[2].fingerprint()


class Late(snn.Layer):
    """Answers with its input four steps later."""

    output = "spikes"

    def forward(self, x, state=None):
        return torch.cat([torch.zeros_like(x[:4]), x[:-4]]), None


def test_the_table_of_recall_is_of_one_corruption_at_a_time_and_four_steps_later(monkeypatch):
    monkeypatch.setattr(recall, "GROWING", {"noise": (0, 0.01), "rows": (0, 150)})
    settings = config.resolve(ROOT / "configs/associative_memory.yaml")
    split = patterns.load(settings, torch.device("cpu"), None)[0]["test"]
    rows = recall.table(snn.Sequential(Late()), split, settings)
    assert all((row["f1"], row["van_rossum"]) == (pytest.approx(1), 0) for row in rows[::2])
    noisy, without_rows = rows[1::2]
    assert noisy["precision"] < 0.9 and noisy["recall"] == 1
    assert without_rows["precision"] == 1 and without_rows["recall"] < 0.6


def test_each_rank_corrupts_otherwise(monkeypatch):
    settings, drawn = config.resolve(ROOT / "configs/associative_memory.yaml"), []
    split = patterns.load(settings, torch.device("cpu"), None)[0]["dev"]
    for rank in (0, 1):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        drawn.append(next(split.batches_of([torch.arange(4)], None))[0])
    assert not torch.equal(*drawn)
