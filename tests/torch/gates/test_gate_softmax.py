"""Softmax and top-k: what weights add up to."""

import pytest
import torch

from shortlist.torch.gates import SoftmaxTopK


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("normalize", [None, True, False])
def test_weights_add_up_to_one_where_that_is_asked_for(k, normalize):
    torch.manual_seed(0)
    gate, x = SoftmaxTopK(8, 5, k=k, normalize=normalize), torch.randn(20, 8)
    sums = gate(x).dense().sum(-1)
    one = k > 1 if normalize is None else normalize  # a single weight of one would teach the router nothing
    if one:
        torch.testing.assert_close(sums, torch.ones(20))
    else:
        torch.testing.assert_close(sums, gate.estimate(x).softmax(-1).topk(k).values.sum(-1))
