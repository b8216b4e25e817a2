"""A tiny model: hidden states that wander in few directions, and a packed head over them."""

import numpy as np
import pytest

from shortlist import _native

VOCABULARY, WIDTH = 600, 96


class TinyTokenizer:
    eos_ids = frozenset({2})
    chat_template = None

    def encode(self, text, *, add_special=True):
        return [1] * add_special + [3 + ord(c) % (VOCABULARY - 3) for c in text]

    def encode_chat(self, messages):
        return [1, 4, *self.encode(messages[0]["content"], add_special=False), 5]


class TinyDecoder:
    fingerprint = "f00d"
    layer_bytes = 1000
    logit_cap = None

    def __init__(self, width=WIDTH):
        rng = np.random.default_rng(0)
        scale = np.geomspace(1, 0.05, width)
        self.embedding = (rng.standard_normal((VOCABULARY, width)) * scale).astype(np.float32)
        codes = rng.integers(-127, 128, (VOCABULARY, width)).astype(np.int8)
        scales = rng.uniform(0.005, 0.01, (VOCABULARY, -(-width // 32))).astype(np.float16)
        self.head_rows = _native.Rows.pack_int8(codes, scales.view(np.uint16))

    def new_cache(self, capacity):
        return {"room": capacity, "state": np.zeros(self.embedding.shape[1], np.float32)}

    def forward(self, tokens, cache):
        hidden = []
        for token in tokens:
            cache["room"] -= 1
            assert cache["room"] >= 0
            cache["state"] = 0.5 * cache["state"] + self.embedding[token]
            hidden.append(cache["state"])
        return np.stack(hidden)


@pytest.fixture
def decoder():
    return TinyDecoder()


@pytest.fixture
def narrow_decoder():
    """One whose head has no rank to choose."""
    return TinyDecoder(width=32)


@pytest.fixture
def tokenizer():
    return TinyTokenizer()
