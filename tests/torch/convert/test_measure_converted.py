"""The reads of a token, counted by hand on a tiny model."""

import pytest
import torch

from shortlist.torch.convert.measure import measure
from shortlist.torch.converted import GateConfig, MoEConfig, install
from shortlist.torch.ternary import make_ternary

WIDTH, NEURONS = 64, 192


def test_a_dense_model_reads_all_but_the_embedding(dense, one_domain):
    measured = measure(dense, one_domain.ids)
    weights = sum(p.numel() for p in dense.parameters())
    read = weights - dense.get_input_embeddings().weight.numel()
    assert (measured.parameters, measured.active_parameters) == (weights, read)
    assert measured.bytes_per_token == 2 * read
    assert measured.active_ffn == 1
    with torch.no_grad():
        loss = dense(one_domain.ids, labels=one_domain.ids).loss
    assert measured.perplexity == pytest.approx(float(loss.exp()), rel=1e-4)


@pytest.mark.parametrize("ternary", [False, True])
def test_a_mixture_reads_what_it_chooses(dense, one_domain, ternary):
    whole = measure(dense, one_domain.ids).active_parameters
    config = MoEConfig("test", 4, 32, 64, GateConfig("softmax", k=2, normalize=True), ternary, (1,))
    for layer in install(dense, config).layers.values():
        if ternary:
            make_ternary(layer.experts)
    measured = measure(dense, one_domain.ids, config)
    outside, shared, gate, chosen = whole - 3 * WIDTH * NEURONS, 3 * WIDTH * 64, 4 * WIDTH, 2 * 3 * WIDTH * 32
    assert measured.active_parameters == outside + shared + gate + chosen
    experts = chosen / 4 + 2 * 4 * (2 * 32 + WIDTH) if ternary else 2 * chosen
    assert measured.bytes_per_token == 2 * (outside + shared) + 4 * gate + experts
    assert measured.active_ffn == pytest.approx((1 + (64 + 2 * 32) / NEURONS) / 2)
