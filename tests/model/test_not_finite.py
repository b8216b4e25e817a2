"""Weights that are not numbers: an error that names the file, wherever they are and whatever reads them."""

import shutil

import numpy as np
import pytest
from builders import tiny_hf
from heads import low_rank_head
from safetensors.numpy import load_file, save_file

import shortlist
from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError
from shortlist.model.decoder import Decoder

TOKENS = np.array([5, 17, 200, 3, 3, 99, 250, 7, 31, 64], np.int32)


@pytest.fixture(scope="module", params=["qwen3", "gemma3n", "qwen2_moe"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    tiny_hf(request.param, path)
    return path


def damaged(folder, target, name, value, place=None):
    shutil.copytree(folder, target)
    path = target / "model.safetensors"
    tensors = load_file(path)
    flat = tensors[name].reshape(-1)
    flat[len(flat) // 2 if place is None else place] = value
    save_file(tensors, path, metadata={"format": "pt"})
    return target


def names_in(folder) -> list[str]:
    """One tensor of each kind."""
    kinds = {}
    for name in load_file(folder / "model.safetensors"):
        kinds.setdefault("".join(c for c in name if not c.isdigit()), name)
    return list(kinds.values())


@pytest.mark.parametrize("weights", [None, "q8", "q4"])
def test_in_any_tensor_of_the_layers(folder, weights, tmp_path):
    for number, name in enumerate(names_in(folder)):
        if "embed_tokens" in name or "lm_head" in name or ".experts." in name:
            continue  # those are only read for their tokens
        target = damaged(folder, tmp_path / str(number), name, np.nan)
        try:
            with open_checkpoint(target) as checkpoint:
                decoder = Decoder(checkpoint, weights=weights, ffn="dense", threads=2)  # reads every neuron
        except CheckpointError:
            continue  # seen even earlier
        with pytest.raises(CheckpointError, match=str(target)):
            decoder.forward(TOKENS, decoder.new_cache(64))
        shutil.rmtree(target)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("weights", "head"), [(None, "dense"), ("q8", "dense"), ("q8", "exact"), ("q4", "auto")]
)
def test_in_a_row_of_the_head(weights, head, value, tmp_path):
    tiny_hf("llama", tmp_path / "good")
    target = damaged(tmp_path / "good", tmp_path / "bad", "lm_head.weight", value, place=64 * 7 + 3)
    with pytest.raises(CheckpointError, match=f"{target}.*row 7 of the head") as caught:
        shortlist.load(target, weights=weights, head=head)
    assert "\n" not in str(caught.value)


def test_the_estimated_head_is_not_fitted_to_a_row_that_is_not_a_number(tmp_path):
    from shortlist.estimators.low_rank import LowRank
    from shortlist.selectors import Confidence

    tiny_hf("llama", tmp_path / "good")
    target = damaged(tmp_path / "good", tmp_path / "bad", "lm_head.weight", np.nan, place=64 * 7 + 3)
    with open_checkpoint(tmp_path / "good") as checkpoint:
        good = Decoder(checkpoint, weights="q8", threads=2)
    with open_checkpoint(target) as checkpoint:
        bad = Decoder(checkpoint, weights="q8", threads=2)
    hidden = np.random.default_rng(0).normal(size=(150, 64)).astype(np.float32)
    state = LowRank(32).fit(good.head_rows, hidden)
    with pytest.raises(CheckpointError, match="row 7 of the head"):
        low_rank_head(bad.head_rows, state, Confidence(5.0))
