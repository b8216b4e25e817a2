"""Engines for comparison in `shortlist bench`: one file each, imported only in the engine's process."""

import importlib
from dataclasses import dataclass

from shortlist.peers.base import Peer, PeerError


@dataclass(frozen=True)
class PeerEntry:
    """The module of an engine's adapter, and the command that installs its packages."""

    module: str
    name: str
    install: str

    def load(self) -> type[Peer]:
        """Import the adapter.

        Raises
        ------
        PeerError
            A package that it needs is not installed.
        """
        try:
            return getattr(importlib.import_module(f"{__name__}.{self.module}"), self.name)
        except ImportError as error:
            raise PeerError(f"not installed ({error}): {self.install}") from None


PEERS = {
    "llama.cpp": PeerEntry(
        "llama",
        "LlamaCpp",
        "CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python",
    ),
    "ik_llama.cpp": PeerEntry("ik_llama", "IkLlamaCpp", "pip install ik-llama-cpp-python"),
    "transformers": PeerEntry(
        "transformers_float32", "Transformers", "pip install torch transformers accelerate"
    ),
    "onnxruntime-genai": PeerEntry(
        "onnxruntime_int4",
        "OnnxRuntimeGenAI",
        "pip install onnxruntime-genai onnx-ir torch transformers accelerate",
    ),
    "ctranslate2": PeerEntry(
        "ctranslate2_int8", "CTranslate2", "pip install ctranslate2 torch transformers accelerate"
    ),
}

__all__ = ["PEERS", "Peer", "PeerEntry", "PeerError"]
