"""The engines that `shortlist bench` measures against: one file per engine, imported only in its own process."""

import importlib
import importlib.util
from dataclasses import dataclass

from shortlist.evaluate.peers.base import Peer, PeerError


@dataclass(frozen=True)
class PeerEntry:
    """Where an engine's adapter is, the module that it needs, and the line that installs that."""

    adapter: str
    requires: str
    install: str

    def installed(self) -> bool:
        return importlib.util.find_spec(self.requires) is not None

    def load(self) -> type[Peer]:
        module, name = self.adapter.split(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)


PEERS = {
    "llama.cpp": PeerEntry(
        "llama_cpp:LlamaCpp",
        "llama_cpp",
        "CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python",
    ),
    "ik_llama.cpp": PeerEntry("ik_llama_cpp:IkLlamaCpp", "ik_llama_cpp", "pip install ik-llama-cpp-python"),
    "transformers": PeerEntry(
        "transformers:Transformers", "transformers", "pip install torch transformers accelerate"
    ),
    "onnxruntime-genai": PeerEntry(
        "onnxruntime_genai:OnnxRuntimeGenAI",
        "onnxruntime_genai",
        "pip install onnxruntime-genai onnx-ir torch transformers accelerate",
    ),
    "ctranslate2": PeerEntry(
        "ctranslate2:CTranslate2", "ctranslate2", "pip install ctranslate2 torch transformers accelerate"
    ),
}

__all__ = ["PEERS", "Peer", "PeerEntry", "PeerError"]
