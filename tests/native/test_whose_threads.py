"""Threads belong to the call: changing them, loading models and importing PyTorch's side touch no other."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from builders import tiny_gguf, tiny_hf
from heads import low_rank_head

import shortlist
from shortlist import _native
from shortlist.checkpoints import open_checkpoint
from shortlist.estimators.low_rank import LowRank
from shortlist.model.decoder import Decoder
from shortlist.selectors import Confidence

OPTIONS = ({}, {"temperature": 1.0, "seed": 3}, {"temperature": 1.0, "seed": 3, "top_p": 0.9})


def team_of(decoder: Decoder) -> int:
    with decoder._workers:
        return _native.hold_pool(0)[1]


def test_a_second_model_leaves_the_first_ones_threads(tmp_path):
    tiny_hf("llama", tmp_path)
    before = _native.threads()
    with shortlist.load(tmp_path, threads=1) as one, shortlist.load(tmp_path, threads=3) as other:
        assert (one.decoder.threads, other.decoder.threads) == (1, 3)
        assert (team_of(one.decoder), team_of(other.decoder)) == (1, 3)
        assert (one.dense_head.workers.threads, other.head.workers.threads) == (1, 3)
        assert (one.decoder.head_rows.threads, other.decoder.head_rows.threads) == (1, 3)
        assert one.generate("Hello", max_tokens=8).text == other.generate("Hello", max_tokens=8).text
    assert _native.threads() == before


IMPORT = """
import sys
from shortlist import _native
before = _native.threads(), _native.hold_pool(0)[1]
import shortlist.torch
import torch
from shortlist.torch import Experts, MoE, SoftmaxTopK
torch.set_num_threads(3)
moe, x = MoE(SoftmaxTopK(16, 4), Experts(4, 16, 40)), torch.randn(50, 16)
moe(x).sum().backward()
assert (_native.threads(), _native.hold_pool(0)[1]) == before, before
assert before[0] == before[1]
"""


def test_importing_and_using_the_side_of_pytorch_leaves_the_pool():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


class Unrest:
    """Threads that change the pool's, load models and run other models, until the block ends."""

    def __init__(self, folder, gguf):
        self._end, self.errors = threading.Event(), []
        work = (self._change, lambda: self._load(folder), lambda: self._load(gguf), self._multiply)
        self._threads = [threading.Thread(target=self._repeat, args=(each,)) for each in work]

    def _repeat(self, work):
        while not self._end.is_set() and not self.errors:
            try:
                work()
            except Exception as error:
                self.errors.append(error)

    def _change(self):
        for threads in (1, 7, 2, 16, 3):
            _native.set_threads(threads)

    def _load(self, path):
        with shortlist.load(path, threads=int(time.time() * 1000) % 5 + 1) as model:
            model.generate("a", max_tokens=2)

    def _multiply(self):
        rows = _native.Rows.pack(np.ones(500 * 64, np.float32).view(np.uint8), "F32", 500, 64, "q8")
        with _native.Workers(5):
            assert (rows.matvec(np.ones(64, np.float32)) > 63).all()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("seconds", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_a_model_writes_the_same_while_others_load_and_threads_change(seconds, tmp_path):
    tiny_hf("llama", tmp_path / "folder")
    tiny_gguf("gemma3n", tmp_path / "m.gguf")
    before = _native.threads()
    with shortlist.load(tmp_path / "folder", weights="q8", head="exact") as model:
        texts = [model.generate("Once", max_tokens=40, **options).tokens for options in OPTIONS]
        cases = [(model, options, tokens) for options, tokens in zip(OPTIONS, texts, strict=True)]
        hidden = np.random.default_rng(0).normal(size=(150, 64)).astype(np.float32)
        state = LowRank(32).fit(model.decoder.head_rows, hidden)
        estimated = low_rank_head(model.decoder.head_rows, state, Confidence(5.0))
        expected = [(estimated.argmax(query), estimated.logits(query)[0]) for query in hidden[:4]]
        try:
            with Unrest(tmp_path / "folder", tmp_path / "m.gguf") as unrest:
                end = time.monotonic() + seconds
                rounds = 0
                while time.monotonic() < end or not rounds:
                    for decoded, options, tokens in cases:
                        assert decoded.generate("Once", max_tokens=40, **options).tokens == tokens
                    for query, (token, logits) in zip(hidden, expected, strict=False):
                        assert estimated.argmax(query) == token
                        assert np.array_equal(estimated.logits(query)[0], logits)
                    rounds += 1
        finally:
            _native.set_threads(before)
    assert not unrest.errors


def test_one_decoder_serves_several_threads_one_after_the_other(tmp_path):
    tiny_hf("llama", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        decoder = Decoder(checkpoint, threads=2)
    tokens = [np.arange(first, first + 60, dtype=np.int32) for first in (0, 50, 100, 150)]
    expected = [decoder.forward(each, decoder.new_cache(64)) for each in tokens]
    results: list[list[np.ndarray]] = [[] for _ in tokens]

    def work(i):
        for _ in range(15):
            results[i].append(decoder.forward(tokens[i], decoder.new_cache(64)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(tokens))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, found in enumerate(results):
        assert len(found) == 15
        assert all(np.array_equal(each, expected[i]) for each in found)


def test_a_cache_that_two_threads_fill_stays_within_its_room(tmp_path):
    tiny_hf("llama", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        decoder = Decoder(checkpoint, threads=2)
    cache, full = decoder.new_cache(100), []

    def work():
        try:
            for _ in range(100):
                decoder.forward(np.arange(3, dtype=np.int32), cache)
        except ValueError as error:
            full.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert full == ["the cache is full"] * 3
    assert cache.length == 99
