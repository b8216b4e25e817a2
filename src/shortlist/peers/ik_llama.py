"""ik_llama.cpp, the fork of llama.cpp with faster CPU kernels."""

from typing import Any

from ik_llama_cpp import _ctypes_api  # pyright: ignore[reportMissingImports]

from shortlist.peers.ggml import GgmlPeer


class IkLlamaCpp(GgmlPeer):
    api = _ctypes_api

    def set_flash_attention(self, parameters: Any, on: bool) -> None:
        parameters.flash_attn = on

    def clear_cache(self) -> None:
        _ctypes_api.llama_kv_cache_clear(self.context)
