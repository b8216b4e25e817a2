"""Several sequences in one pass of the decoder: each is computed as if it were alone."""

import numpy as np
import pytest
from builders import tiny_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.checkpoints import open_checkpoint
from shortlist.model.decoder import Decoder

VOCABULARY = 320


@pytest.fixture(scope="module", params=["llama", "gemma3", "arcee", "gemma3n", "olmoe"])
def decoder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("together") / f"{request.param}.gguf"
    tiny_gguf(request.param, path, type="Q8_0" if request.param == "gemma3" else "Q4_1")
    with open_checkpoint(path) as checkpoint:
        return Decoder(checkpoint)


def texts(count, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCABULARY, random.integers(1, 30)).astype(np.int32) for _ in range(count)]


def token_by_token(decoder, tokens):
    cache = decoder.new_cache(64)
    return np.concatenate([decoder.forward(tokens[i : i + 1], cache) for i in range(len(tokens))])


@settings(max_examples=10)
@given(count=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_sequence_does_not_depend_on_its_neighbours(decoder, count, seed):
    random = np.random.default_rng(seed)
    sequences = texts(count, seed)
    alone = [token_by_token(decoder, tokens) for tokens in sequences]
    caches = [decoder.new_cache(64) for _ in sequences]
    done = np.zeros(count, int)
    lengths = np.array([len(tokens) for tokens in sequences])
    while (done < lengths).any():
        steps = np.minimum(random.integers(0, 10, count), lengths - done)
        segments = [
            (tokens[at : at + step], cache)
            for tokens, at, step, cache in zip(sequences, done, steps, caches, strict=True)
        ]
        hidden = np.split(decoder.forward_together(segments), np.cumsum(steps)[:-1])
        for part, whole, at, step in zip(hidden, alone, done, steps, strict=True):
            np.testing.assert_array_equal(part, whole[at : at + step])
        done += steps
    assert [cache.length for cache in caches] == lengths.tolist()


def test_a_prompt_in_one_piece_is_the_same_as_token_by_token(decoder):
    tokens = texts(1)[0]
    whole = decoder.forward(tokens, decoder.new_cache(64))
    np.testing.assert_array_equal(whole, token_by_token(decoder, tokens))


def test_a_cache_continues_from_what_it_took_over(decoder):
    first, second = decoder.new_cache(40), decoder.new_cache(64)
    tokens = np.arange(20, dtype=np.int32)
    decoder.forward(tokens, first)
    second.take_over(first, 12)
    assert second.length == 12
    np.testing.assert_array_equal(
        decoder.forward(tokens[12:], second), decoder.forward(tokens, decoder.new_cache(64))[12:]
    )


def test_a_cache_takes_over_only_what_is_there(decoder):
    full, empty = decoder.new_cache(8), decoder.new_cache(4)
    decoder.forward(np.arange(8, dtype=np.int32), full)
    with pytest.raises(ValueError, match="positions that are there"):
        full.take_over(empty, 1)
    with pytest.raises(ValueError, match="room for"):
        empty.take_over(full, 5)
    with pytest.raises(ValueError, match="not of the same decoder"):
        decoder.new_cache(8, full_precision=True).take_over(full, 1)
    with pytest.raises(ValueError, match="another"):
        full.take_over(full, 1)


def test_a_cache_cannot_come_twice(decoder):
    cache = decoder.new_cache(8)
    with pytest.raises(ValueError, match="twice"):
        decoder.forward_together([([1], cache), ([2], cache)])
