"""Bars that move: neither a frame nor the sum of frames tells their direction."""

import torch

from benchmarks import direction


def test_bars_move_as_labelled(monkeypatch):
    monkeypatch.setattr(direction, "NOISE", 0)
    x, labels = direction.bars(64, 8, torch.Generator().manual_seed(1))
    assert set(labels.tolist()) == {0, 1, 2, 3}
    for sample, label in zip(x.transpose(0, 1)[:, :, 0], labels.tolist()):
        frames = sample[sample.flatten(1).any(1)].rot90(-label, (1, 2))
        assert (sample.flatten(1).sum(1) % direction.SIZE == 0).all()
        place = frames.all(2).int().argmax(1)
        assert len(place) == direction.LENGTH // 8 and (frames.sum((1, 2)) == direction.SIZE).all()
        assert ((place[1:] - place[:-1]) % direction.SIZE == 1).all()


def test_the_networks_differ_in_their_filters_alone():
    nets = {name: direction.network(synapse) for name, synapse in direction.FILTERS.items()}
    assert all(net(torch.ones(3, 2, 1, 12, 12))[0].shape == (3, 2, 4) for net in nets.values())
    trained = {name: {key for key, p in net.named_parameters() if p.requires_grad} for name, net in nets.items()}
    weights = {"1.weight", "1.bias", "6.weight", "6.bias"}
    assert trained["fixed"] == trained["none"] == weights
    assert trained["trained"] - weights == {f"{layer}.{name}" for layer in (0, 5) for name in ("a1", "a2", "b1")}


def test_table_and_picture(tmp_path):
    row = {"seed": "1", "seconds": "1", "response": "0.5 0.2"}
    rows = [row | {"filters": name, "pause": "8", "test": "90.0"} for name in direction.FILTERS]
    assert "| 8 | 90.0 (90.0 to 90.0) | 90.0 (90.0 to 90.0) | 90.0 (90.0 to 90.0) |" in direction.table(rows)
    assert "| 12 | not run | not run | not run |" in direction.table(rows)
    direction.draw(rows).savefig(tmp_path / "a.png")
