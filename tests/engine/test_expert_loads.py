"""What is said about the experts of a run."""

import numpy as np
import pytest
from builders import tiny_gguf

import shortlist
from shortlist.engine.stats import describe_loads


def test_loads_by_hand():
    loads = np.array([[4, 0, 2, 2], [2, 2, 2, 2]])
    report = describe_loads(loads, 4)
    assert report == {
        "mixtures": 2,
        "experts": 4,
        "per_token": 2.0,
        "busiest": 2.0,
        "unused": 1,
        "loads": [[1.0, 0.0, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]],
    }


@pytest.mark.parametrize(("loads", "tokens"), [(np.zeros((0, 0)), 5), (np.zeros((2, 4)), 0)])
def test_nothing_to_say(loads, tokens):
    assert describe_loads(loads, tokens) is None


def test_each_text_counts_its_own_tokens(tmp_path):
    tiny_gguf("qwen3_moe", tmp_path / "m.gguf")
    with shortlist.load(tmp_path / "m.gguf", head="dense") as model:
        for prompt, count in (("the one", 5), ("and the other", 3)):
            stats = model.generate(prompt, max_tokens=count, temperature=0).stats
            assert stats.experts["per_token"] == 2.0
            assert np.sum(stats.experts["loads"], axis=1) == pytest.approx([2, 2], abs=1e-3)
            assert stats.to_dict()["experts"]["mixtures"] == 2


def test_a_dense_model_has_none(tmp_path):
    tiny_gguf("llama", tmp_path / "m.gguf")
    with shortlist.load(tmp_path / "m.gguf", head="dense") as model:
        assert "experts" not in model.generate("the", max_tokens=2).to_dict()["stats"]
