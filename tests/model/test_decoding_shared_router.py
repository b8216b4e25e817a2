"""Mixtures that share a router: what it remembers is kept beside keys and values, position by position."""

import numpy as np
import pytest
import torch
from builders import tiny_hf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import shortlist
from shortlist.checkpoints import open_checkpoint
from shortlist.engine.batch import BatchEngine
from shortlist.engine.options import GenerationOptions
from shortlist.errors import CheckpointError
from shortlist.model.decoder import Decoder
from shortlist.torch.converted import GateConfig, MoEConfig, install
from shortlist.torch.converted_files import save_converted

VOCABULARY, RANK = 320, 24
TOKENS = np.random.default_rng(3).integers(0, VOCABULARY, 40).astype(np.int32)
IN_CHUNKS = np.random.default_rng(4).integers(0, VOCABULARY, 600).astype(np.int32)


def convert(folder, *, damage=False):
    """A folder of random mixtures in layers 0 and 2 of 3."""
    model = tiny_hf("llama", folder / "dense", num_hidden_layers=3, max_position_embeddings=1024)
    config = MoEConfig("test", 4, 32, 32, GateConfig("shared_router", k=1, width=RANK), False, (0, 2))
    torch.manual_seed(0)
    for module in (*install(model, config).layers.values(), model.model.router):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    if damage:
        model.model.router.down.bias.data[1] = float("nan")
    save_converted(model, config, AutoTokenizer.from_pretrained(folder / "dense"), folder / "converted")
    return folder / "converted"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return convert(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def decoder(folder):
    with open_checkpoint(folder) as checkpoint:
        return Decoder(checkpoint)


def whole(decoder, tokens):
    return decoder.forward(tokens, decoder.new_cache(len(tokens)))


def test_the_route_depends_on_what_came_before(decoder):
    def routed(tokens):
        before = decoder.expert_loads
        whole(decoder, tokens)
        return decoder.expert_loads - before

    together = routed(TOKENS)
    apart = sum(routed(TOKENS[i : i + 1]) for i in range(len(TOKENS)))
    assert np.array_equal(together[0], together[1]), "both mixtures go the same way"
    assert together.sum() == 2 * len(TOKENS)
    assert (together[0] > 0).sum() > 1, "several experts are in use"
    assert not np.array_equal(together, apart)


@settings(max_examples=15)
@given(kept=st.integers(0, 39), other=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20))
def test_a_cache_that_is_cut_goes_on_as_if_nothing_else_had_been_there(decoder, kept, other):
    expected = whole(decoder, TOKENS)
    for cut in ("truncate", "discard"):
        cache = decoder.new_cache(64)
        decoder.forward(np.array([*TOKENS[:kept], *other], np.int32), cache)
        getattr(cache, cut)(kept)
        np.testing.assert_array_equal(decoder.forward(TOKENS[kept:], cache), expected[kept:])


def test_a_cache_of_another_capacity_takes_over(decoder):
    first, second = decoder.new_cache(40), decoder.new_cache(1000)
    decoder.forward(TOKENS, first)
    second.take_over(first, 23)
    np.testing.assert_array_equal(decoder.forward(TOKENS[23:], second), whole(decoder, TOKENS)[23:])


def test_chunks_of_a_prompt_follow_one_another(decoder):
    cache = decoder.new_cache(600)
    one_by_one = [decoder.forward(IN_CHUNKS[i : i + 1], cache) for i in range(600)]
    np.testing.assert_array_equal(whole(decoder, IN_CHUNKS), np.concatenate(one_by_one))


def test_the_state_counts_to_what_a_position_takes(decoder):
    keys_and_values = 3 * 2 * 2 * 16 * 2  # layers, both, heads, head size, float16
    assert decoder.new_cache(8).token_bytes == keys_and_values + 4 * RANK


def test_a_token_reads_the_router_once_and_one_expert_in_each_mixture(decoder):
    attention = 2 * (2 * 64 * 64 + 2 * 32 * 64)  # in bfloat16
    dense = 2 * (2 * 96 * 64 + 64 * 128)  # inputs are padded to a multiple of 64
    block = 2 * (2 * 32 * 64 + 64 * 64)
    router = 4 * (RANK * 64 + RANK * 64 + 4 * 64)
    assert decoder.layer_bytes == 3 * attention + dense + 2 * (block + block) + router


def test_requests_together_write_what_they_write_alone(folder):
    prompts = [TOKENS[:n].tolist() for n in (5, 17, 31)] + [[7, *TOKENS[:12].tolist()]]
    with shortlist.load(folder, head="dense", threads=2) as model:
        alone = [model.generate(prompt, max_tokens=12, temperature=0.0).text for prompt in prompts]
        assert [model.generate(p, max_tokens=12, temperature=0.0).text for p in prompts] == alone
        engine = BatchEngine(model, slots=4)
        written = {}
        jobs = [
            engine.submit(
                prompt, GenerationOptions(max_tokens=12), lambda event, i=i: written.update({i: event})
            )
            for i, prompt in enumerate(prompts)
        ]
        assert len(jobs) == 4
        engine.close(60)
    assert [written[i].generation.text for i in range(4)] == alone


def test_a_router_that_is_not_all_numbers_is_refused(tmp_path):
    with (
        open_checkpoint(convert(tmp_path, damage=True)) as checkpoint,
        pytest.raises(CheckpointError, match="its router is not all numbers"),
    ):
        Decoder(checkpoint)
