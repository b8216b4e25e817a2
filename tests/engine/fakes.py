"""Stand-ins for the decoder, its heads and the tokenizer: NumPy only, small, deterministic."""

import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np

from shortlist import _native
from shortlist.engine.model import Model
from shortlist.errors import UsageError
from shortlist.sites.head import Read


def fake_model(script: bytes | None = None, *, context: int | None = None, **decoder: Any) -> Any:
    """A model of fakes; with `script` it answers every prompt with that."""
    parts: Any = FakeDecoder(script, **decoder), ByteTokenizer(), FakeHead(scripted=script is not None)
    model: Any = Model(*parts, context=context)
    model.dense_head = FakeDenseHead(scripted=script is not None)
    return model


class FixedHead:
    """A bounded head whose logits and bounds are given, whatever the query."""

    name = "exact"
    exact = bounded = draws = True
    cap = None
    row_bytes = 10
    members = 1  # threads that take the bounds

    def __init__(self, logits, lower, upper):
        self.values = np.asarray(logits, dtype=np.float32)
        self.lower = np.asarray(lower, dtype=np.float32)
        self.upper = np.asarray(upper, dtype=np.float32)
        self.rows_read = []
        self.reads = self.full = 0  # over several draws

    def bounds(self, hidden):
        return self.lower, self.upper

    def draw_together(self, hidden, asked, whole=False):
        draws = []
        for each in asked:
            if whole:
                token, _ = _native.sample_from_bounds(*[self.values] * 3, each, self.members)
                draws.append((token, self.logits(hidden)[1]))
                continue
            token, rows = _native.sample_from_bounds(self.lower, self.upper, self.values, each, self.members)
            self.rows_read.extend(rows)
            draws.append((token, self.read(len(rows))))
        return draws

    def exact_rows(self, hidden, rows):
        self.rows_read.extend(rows.tolist())
        return self.values[rows]

    def logits(self, hidden):
        return self.values.copy(), Read(len(self.values), 10_000)

    def argmax(self, hidden):
        return int(np.argmax(self.values)), self.read(1)

    def read(self, rows):
        return Read(rows, 1000 + 10 * rows)


class ByteTokenizer:
    """One token per byte, then the begin and end tokens: 258 in all."""

    bos_id = 256
    eos_ids = frozenset({257})
    special_ids = frozenset({256, 257})
    strips_space = False
    vocab_size = 258
    chat_template = "messages"
    template_names = ()
    name = "/models/fake.gguf"

    def encode(self, text, *, add_special=True, parse_special=False):
        try:
            return [self.bos_id] * add_special + list(text.encode())
        except UnicodeEncodeError:
            raise UsageError("the text is not valid UTF-8") from None

    def token_bytes(self, token):
        return bytes([token]) if token < 256 else b""

    def decode(self, tokens, *, skip_special=True):
        return b"".join(self.token_bytes(token) for token in tokens).decode(errors="replace")

    def template_knows(self, variable):
        return variable == "tools"

    def encode_chat(self, messages, *, add_generation_prompt=True, **options):
        text = "".join(f"<{message['role']}>{message['content']}\n" for message in messages)
        return self.encode(text + "<assistant>" * add_generation_prompt)


class FakeCache:
    """Remembers the tokens themselves, so that a wrong reuse of the cache changes the hidden states."""

    nbytes = 0
    token_bytes = 4

    def __init__(self, capacity):
        self.capacity = capacity
        self.tokens = []

    @property
    def length(self):
        return len(self.tokens)

    def truncate(self, length):
        assert length <= self.length
        del self.tokens[length:]

    discard = truncate

    def take_over(self, other, length):
        assert length <= other.length
        self.tokens = other.tokens[:length]


class FakeDecoder:
    """Hidden states that depend on every token so far.

    With `script`, the greatest logits are the script's tokens and then the end token, whatever the prompt
    was.
    """

    width = 16
    layer_bytes = 5000
    ffn = "dense"
    expert_loads = np.zeros((0, 0), np.int64)
    fingerprint = "0123456789abcdef"
    threads = 2
    head_rows = SimpleNamespace(nbytes=2000)
    logit_cap = None

    def __init__(self, script=None, *, context_length=1024, seconds=0.0):
        self.config = SimpleNamespace(
            vocab_size=ByteTokenizer.vocab_size,
            width=self.width,
            context_length=context_length,
            family="fake",
        )
        self.script, self.seconds = script, seconds
        self.prompt_length = 0
        self.forwarded = []
        self.steps = []
        self.interrupt_after = None

    def new_cache(self, context):
        return FakeCache(context)

    def forward(self, tokens, cache, on_chunk=None):
        time.sleep(self.seconds)
        if len(tokens) > 1:
            self.prompt_length = cache.length + len(tokens)
        states = []
        for token in tokens.tolist():
            if self.interrupt_after is not None and len(self.forwarded) >= self.interrupt_after:
                self.interrupt_after = None
                raise KeyboardInterrupt
            assert cache.length < cache.capacity
            cache.tokens.append(token)
            self.forwarded.append(token)
            states.append(self._state(cache.tokens))
        if on_chunk is not None:
            on_chunk(len(tokens))
        return np.array(states, dtype=np.float32)

    def forward_together(self, segments):
        self.steps.append([len(tokens) for tokens, _ in segments])
        assert len({id(cache) for _, cache in segments}) == len(segments)
        seconds, self.seconds = self.seconds, 0.0
        time.sleep(seconds)
        states = [self.forward(tokens, cache) for tokens, cache in segments]
        self.seconds = seconds
        return np.concatenate(states)

    def _state(self, tokens):
        if self.script is None:
            return np.random.default_rng(tokens).normal(size=self.width)
        written = len(tokens) - self.prompt_length
        state = np.zeros(self.width)
        state[0] = self.script[written] if 0 <= written < len(self.script) else 257
        return state


class FakeHead:
    """A bounded head over a random matrix, or over the token that a script put into the hidden state."""

    name = "exact"
    exact = bounded = draws = True
    cap = None
    row_bytes = 10

    def __init__(self, scripted=False):
        self.scripted = scripted
        self.table = np.random.default_rng(0).normal(size=(ByteTokenizer.vocab_size, FakeDecoder.width))
        self.calls = []

    def _values(self, hidden):
        if not self.scripted:
            return (self.table @ hidden).astype(np.float32)
        values = np.zeros(len(self.table), dtype=np.float32)
        values[int(hidden[0])] = 50
        return values

    def argmax(self, hidden):
        self.calls.append("argmax")
        return int(np.argmax(self._values(hidden))), self.read(2)

    def argmax_together(self, hidden):
        return [self.argmax(each) for each in hidden]

    def read(self, rows):
        return Read(rows, 1000 + 10 * rows)

    def logits(self, hidden):
        self.calls.append("logits")
        return self._values(hidden), Read(len(self.table), 2000)

    def draw_together(self, hidden, asked, whole=False):
        self.calls.append("draws")
        ends = [np.float32(0 if whole else 0.5)] * 2
        return [self._draw(*pair, *ends) for pair in zip(hidden, asked, strict=True)]

    def _draw(self, hidden, asked, below, above):
        values = self._values(hidden)
        token, rows = _native.sample_from_bounds(values - below, values + above, values, asked)
        return token, self.read(len(rows))

    def bounds(self, hidden):
        self.calls.append("bounds")
        values = self._values(hidden)
        return values - np.float32(0.5), values + np.float32(0.5)

    def estimate(self, hidden):
        lower, upper = self.bounds(hidden)
        return (lower + upper) / 2, (upper - lower) / 2

    def exact_rows(self, hidden, rows):
        return self._values(hidden)[rows]


class FakeDenseHead:
    """All rows of `FakeHead`."""

    name = "dense"
    exact, bounded, draws = True, False, True
    cap = None
    row_bytes = 10
    workers = nullcontext()

    def __init__(self, scripted=False):
        self._head = FakeHead(scripted)
        self.calls = self._head.calls

    def argmax(self, hidden):
        return self._head.argmax(hidden)[0], Read(ByteTokenizer.vocab_size, 2000)

    def argmax_together(self, hidden):
        return [self.argmax(each) for each in hidden]

    def logits(self, hidden):
        return self._head.logits(hidden)

    def draw_together(self, hidden, asked):
        self.calls.append("draws")
        nothing = np.float32(0)
        drawn = [self._head._draw(*pair, nothing, nothing) for pair in zip(hidden, asked, strict=True)]
        return [(token, Read(ByteTokenizer.vocab_size, 2000)) for token, _ in drawn]

    def estimate(self, hidden):
        return None

    def exact_rows(self, hidden, rows):
        return self._head.exact_rows(hidden, rows)
