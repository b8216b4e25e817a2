"""llama.cpp, by the C interface in llama-cpp-python."""

from typing import Any

import llama_cpp  # pyright: ignore[reportMissingImports]

from shortlist.peers.ggml import GgmlPeer


class LlamaCpp(GgmlPeer):
    api = llama_cpp

    def set_flash_attention(self, parameters: Any, on: bool) -> None:
        parameters.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if on else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )

    def clear_cache(self) -> None:
        memory: Any = llama_cpp.llama_get_memory(self.context)
        llama_cpp.llama_memory_clear(memory, False)
