"""The remedies of benchmarks/drift.py do what its table says of them."""

import pytest
import torch

import snn
from benchmarks import drift, remedies
from snn import config
from snn.layers.synapses import coefficient_names, unstable_filters


def test_poles_begin_as_the_published_synapse_and_stay_stable():
    x = (torch.rand(40, 2, 5, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    poles, published = remedies.Poles(5, 4, 1), snn.DualExpIIR(5, 4, 1)
    torch.testing.assert_close(poles(x)[0], published(x)[0])
    torch.testing.assert_close(poles.poles(), published.poles().float())
    with torch.no_grad():
        poles.logit_p += 3
    assert 0.9 < poles.poles().max() < 1 and not poles.unstable() and poles(x)[0].isfinite().all()
    (gradient,) = torch.autograd.grad(poles(x)[0].sum(), [poles.logit_q])
    assert gradient.all()


def test_a_pull_halves_the_distance_in_training_alone():
    layer = remedies.Pulled(3, 4, 1)
    start = layer.a1.detach().clone()
    with torch.no_grad():
        layer.a1 += 0.2
    layer.rate = 0.5
    layer.eval()(torch.ones(1, 1, 3))
    torch.testing.assert_close(layer.a1.detach(), start + 0.2)
    layer.train()(torch.ones(1, 1, 3))
    torch.testing.assert_close(layer.a1.detach(), start + 0.1)


@pytest.mark.parametrize("remedy", drift.REMEDIES)
def test_every_remedy_is_a_network_with_filters_to_train(remedy):
    changes = drift.REMEDIES[remedy][0] | {"hyperparameters.stable_filters": "false"}
    for script in drift.NETWORKS:
        settings = config.resolve(
            drift.ROOT / f"configs/{script}.yaml", overrides=[f"{key}={value}" for key, value in changes.items()]
        )
        net = drift.network(settings, script)
        assert len(coefficient_names(net)) >= 9 and unstable_filters(net) == 0
        pulled = [layer.rate for layer in net.modules() if isinstance(layer, remedies.Pulled)]
        assert pulled == [drift.PULL * settings["optimizer"]["Adam"]["lr"]] * len(pulled)
        assert bool(pulled) == (remedy == "pulled")


def test_table_and_picture(tmp_path):
    row = {"seed": "2", "best": "98.5", "last": "98.2", "unstable": "7", "values": "97 98.5", "unstable_filters": "0 7"}
    rows = [row | {"network": "snn_mlp_1", "remedy": remedy} for remedy in ("published", "poles")]
    assert "| poles | logits of two real poles are trained | 98.5 | 98.2 | 7 |" in drift.table(rows)
    assert "clamped" not in drift.table(rows)
    drift.draw(rows).savefig(tmp_path / "a.png")
