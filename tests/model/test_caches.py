"""A cache belongs to the decoder that made it."""

import numpy as np
import pytest
from builders import tiny_gguf

from shortlist.checkpoints import open_checkpoint
from shortlist.model.decoder import Decoder

TOKENS = np.arange(6, dtype=np.int32)


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    """Two of one file, and one of more layers and wider heads."""
    folder = tmp_path_factory.mktemp("caches")
    tiny_gguf("llama", folder / "a.gguf")
    tiny_gguf("gemma3", folder / "b.gguf")
    made = []
    for name in ("a", "a", "b"):
        with open_checkpoint(folder / f"{name}.gguf") as checkpoint:
            made.append(Decoder(checkpoint, threads=2))
    return made


@pytest.mark.parametrize("other", [1, 2])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_foreign_cache_is_refused(decoders, other, swapped):
    own, foreign = (decoders[other], decoders[0]) if swapped else (decoders[0], decoders[other])
    cache = foreign.new_cache(16)
    with pytest.raises(ValueError, match="belongs to the decoder that it was made for"):
        own.forward(TOKENS, cache)
    with pytest.raises(ValueError, match="belongs to the decoder"):
        own.forward_together([(TOKENS, own.new_cache(16)), (TOKENS, cache)])
    assert cache.length == 0
    assert foreign.forward(TOKENS, cache).shape == (6, 64)
    with pytest.raises(ValueError, match="not of the same decoder"):
        own.new_cache(16).take_over(cache, 3)


def test_precisions_are_not_mixed(decoders):
    decoder = decoders[0]
    full = decoder.new_cache(16, full_precision=True)
    decoder.forward(TOKENS, full)
    with pytest.raises(ValueError, match="decoder and precision"):
        decoder.new_cache(16).take_over(full, 3)


def test_a_cache_is_cut_to_what_it_holds(decoders):
    decoder = decoders[0]
    cache = decoder.new_cache(16)
    decoder.forward(TOKENS, cache)
    for cut in (cache.truncate, cache.discard):
        for length in (-1, 7):
            with pytest.raises(ValueError, match="fewer positions"):
                cut(length)
        cut(6)
    for length in (-1, 7):
        with pytest.raises(ValueError, match="a cache"):
            decoder.new_cache(16).take_over(cache, length)
    cache.discard(4)
    cache.truncate(2)
    assert cache.length == 2
    with pytest.raises(ValueError, match="a cache takes over"):
        cache.take_over(cache, 1)


def test_a_decoder_that_has_caches_gets_no_more_layers(decoders):
    decoder = decoders[0]
    cache = decoder.new_cache(16)
    with pytest.raises(ValueError, match="built before caches"):
        decoder._native.add_layer([])
    del cache


def test_tokens_beyond_the_embedding_are_refused(decoders):
    decoder = decoders[0]
    for token in (320, -1):
        with pytest.raises(IndexError, match="of 320"):
            decoder._native.forward(np.array([token], np.int32), [decoder.new_cache(4)], [1], 10_000)
