"""The common adapter of llama.cpp and its fork: the batch, the loop, and the choice of flash attention."""

import ctypes
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from shortlist.checkpoints import open_checkpoint
from shortlist.checkpoints.parts import bytes_per_token
from shortlist.peers.base import PeerError, SteppingPeer

CONTEXT = 2048
BATCH = 512
TRIAL_TOKENS = 24


class GgmlPeer(SteppingPeer):
    """An engine with llama.cpp's C interface, called without the classes of its Python package.

    Flash attention is faster or slower depending on model and CPU, so loading times both and keeps the
    faster.
    """

    api: Any  # the ctypes module of the package

    def __init__(self, path: Path, threads: int):
        if path.is_dir():
            raise PeerError(f"{path} is not a GGUF file, which is all that this engine reads")
        self.api.llama_backend_init()
        self.model = self.api.llama_model_load_from_file(
            str(path).encode(), self.api.llama_model_default_params()
        )
        if not self.model:
            raise PeerError(f"the engine refused {path.name}")
        self.vocab_size = self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(self.model))
        self.batch = self.api.llama_batch_init(BATCH, 0, 1)
        with open_checkpoint(path) as checkpoint:
            self.bytes_per_token = bytes_per_token(checkpoint)
        self._choose_flash_attention(threads)

    def _choose_flash_attention(self, threads: int) -> None:
        contexts = {flash: self._new_context(threads, flash) for flash in (False, True)}
        seconds: dict[bool, list[float]] = {flash: [] for flash in contexts}
        for _ in range(3):
            for flash, self.context in contexts.items():
                seconds[flash].append(self.decode([1, 2, 3, 4], TRIAL_TOKENS))
        best = min(seconds, key=lambda flash: median(seconds[flash]))
        self.api.llama_free(contexts.pop(not best))
        self.context = contexts[best]
        self.settings = f"flash attention {'on' if best else 'off'}"

    def _new_context(self, threads: int, flash_attention: bool) -> Any:
        parameters = self.api.llama_context_default_params()
        parameters.n_ctx = CONTEXT
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = threads
        self.set_flash_attention(parameters, flash_attention)
        context = self.api.llama_init_from_model(self.model, parameters)
        if not context:
            raise PeerError("the engine could not make a context: is there enough memory?")
        return context

    @abstractmethod
    def set_flash_attention(self, parameters: Any, on: bool) -> None: ...

    @abstractmethod
    def clear_cache(self) -> None: ...

    def reset(self) -> None:
        self.clear_cache()
        self.position = 0

    def step(self, tokens: Sequence[int]) -> int:
        for start in range(0, len(tokens), BATCH):
            self._decode(tokens[start : start + BATCH], last=start + BATCH >= len(tokens))
        logits = self.api.llama_get_logits_ith(self.context, -1)
        values = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
        return int(np.ctypeslib.as_array(values, shape=(self.vocab_size,)).argmax())

    def _decode(self, tokens: Sequence[int], last: bool) -> None:
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = self.position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = last and i == len(tokens) - 1
        if self.api.llama_decode(self.context, batch) != 0:
            raise PeerError(f"the engine failed at position {self.position}")
        self.position += len(tokens)
