import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shortlist import checkpoints
from shortlist.peers import PEERS, PeerError
from shortlist.peers.base import SteppingPeer
from shortlist.peers.ggml import GgmlPeer
from shortlist.peers.own import Shortlist

PACKAGES = {
    "llama.cpp": "llama_cpp",
    "ik_llama.cpp": "ik_llama_cpp",
    "transformers": "transformers",
    "onnxruntime-genai": "onnxruntime_genai",
    "ctranslate2": "ctranslate2",
}
STEPPING = ["llama.cpp", "ik_llama.cpp", "transformers"]


@pytest.mark.parametrize("name", PEERS)
def test_missing_package_is_named_with_the_line_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = PEERS[name]
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    for module in (
        f"shortlist.peers.{entry.module}",
        "shortlist.torch.float32",
    ):  # else they are not imported again
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(PeerError, match=f"not installed .*{PACKAGES[name]}.*pip install"):
        entry.load()


def test_stepping_peer_feeds_back_its_own_tokens() -> None:
    class Counting(SteppingPeer):
        def __init__(self) -> None:
            self.texts: list[list[int]] = []

        def reset(self) -> None:
            self.texts.append([])

        def step(self, tokens: Sequence[int]) -> int:
            self.texts[-1] += tokens
            return tokens[-1] + 1

    peer = Counting()
    assert peer.decode([5, 6], 3) >= 0
    assert peer.prefill([1]) >= 0
    assert peer.texts == [[5, 6, 7, 8, 9], [1]]


class FakeGgml:
    """llama.cpp's interface over a model that answers with the sum of the tokens that it has seen."""

    VOCABULARY = 100

    def __init__(self) -> None:
        self.freed: list[Any] = []
        self.batches: list[list[int]] = []
        self.logits = (ctypes.c_float * self.VOCABULARY)()

    def llama_backend_init(self) -> None: ...

    def llama_model_default_params(self) -> object:
        return object()

    llama_context_default_params = staticmethod(SimpleNamespace)

    def llama_model_load_from_file(self, path: bytes, _: object) -> str:
        return path.decode()

    def llama_model_get_vocab(self, model: str) -> str:
        return model

    def llama_vocab_n_tokens(self, _: str) -> int:
        return self.VOCABULARY

    def llama_batch_init(self, size: int, _: int, __: int) -> Any:
        return SimpleNamespace(
            n_tokens=0,
            token=[0] * size,
            pos=[0] * size,
            n_seq_id=[0] * size,
            seq_id=[[0] for _ in range(size)],
            logits=[0] * size,
        )

    def llama_init_from_model(self, _: str, parameters: Any) -> Any:
        return parameters

    def llama_free(self, context: Any) -> None:
        self.freed.append(context)

    def llama_decode(self, _: Any, batch: Any) -> int:
        n = batch.n_tokens
        if batch.pos[0] == 0:
            self.total = 0
        self.total += sum(batch.token[:n])
        self.batches.append(batch.pos[:n])
        self.logits[:] = [0.0] * self.VOCABULARY
        self.logits[self.total % self.VOCABULARY] = 1.0
        return 0

    def llama_get_logits_ith(self, _: Any, index: int) -> Any:
        assert index == -1
        return self.logits


class FakeEngine(GgmlPeer):
    def __init__(self, path: Path):
        self.api = FakeGgml()
        super().__init__(path, 1)

    def set_flash_attention(self, parameters: Any, on: bool) -> None:
        parameters.flash = on

    def clear_cache(self) -> None: ...


def test_ggml_prompts_longer_than_a_batch_continue_their_positions(tiny_random: Path) -> None:
    peer = FakeEngine(tiny_random)
    peer.api.batches.clear()
    peer.reset()
    assert peer.step([1] * 700) == 700 % FakeGgml.VOCABULARY
    assert peer.step([5]) == 705 % FakeGgml.VOCABULARY
    assert [position for batch in peer.api.batches for position in batch] == list(range(701))


def test_ggml_keeps_one_of_two_contexts(tiny_random: Path) -> None:
    peer = FakeEngine(tiny_random)
    (freed,) = peer.api.freed
    assert freed.flash != peer.context.flash
    assert peer.settings == f"flash attention {'on' if peer.context.flash else 'off'}"


def test_ggml_reads_every_tensor_of_a_tied_model(tiny_random: Path) -> None:
    with checkpoints.open_checkpoint(tiny_random) as checkpoint:
        stored = sum(tensor.data.nbytes for tensor in checkpoint.tensors.values())
    assert FakeEngine(tiny_random).bytes_per_token == stored


def test_ggml_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="not a GGUF file"):
        FakeEngine(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPPING)
def test_peers_compute_the_same_model(name: str, tiny_random: Path) -> None:
    """Not on every token: random weights have near ties, and engines round activations differently."""
    pytest.importorskip(PACKAGES[name])
    engines = [Shortlist(tiny_random, 1), PEERS[name].load()(tiny_random, 1)]
    text = np.random.default_rng(0).integers(1, 300, 40).tolist()
    chosen = []
    for engine in engines:
        assert isinstance(engine, SteppingPeer)
        engine.reset()
        chosen.append([engine.step([token]) for token in text])
    agreement = np.mean(np.array(chosen[0]) == np.array(chosen[1]))
    assert agreement > 0.75
