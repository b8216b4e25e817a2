"""GGUF files byte by byte, so that each field can be wrong."""

import struct
from collections.abc import Sequence

UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10
F32, Q8_0 = 0, 8


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def key(name: str | bytes, type: int, payload: bytes) -> bytes:
    return string(name) + struct.pack("<I", type) + payload


def text_key(name: str, value: str | bytes) -> bytes:
    return key(name, STRING, string(value))


def number_key(name: str, value: int | float) -> bytes:
    kind = UINT32 if isinstance(value, int) else FLOAT32
    return key(name, kind, struct.pack("<I" if kind == UINT32 else "<f", value))


def array_key(name: str, type: int, count: int, payload: bytes) -> bytes:
    return key(name, ARRAY, struct.pack("<IQ", type, count) + payload)


def tensor(name: str | bytes, shape: Sequence[int], type: int = F32, offset: int = 0) -> bytes:
    """`shape` is row-major here, as everywhere in this project."""
    dimensions = struct.pack(f"<{len(shape)}Q", *reversed(shape))
    return string(name) + struct.pack("<I", len(shape)) + dimensions + struct.pack("<IQ", type, offset)


def gguf_file(
    keys: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
) -> bytes:
    counts = (
        len(tensors) if tensor_count is None else tensor_count,
        len(keys) if key_count is None else key_count,
    )
    header = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % alignment) + data


LLAMA_SETTINGS: dict[str, int | float] = {
    "llama.context_length": 64,
    "llama.embedding_length": 16,
    "llama.block_count": 1,
    "llama.feed_forward_length": 24,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}
LLAMA_SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (8, 16),
    "output_norm.weight": (16,),
    "blk.0.attn_norm.weight": (16,),
    "blk.0.attn_q.weight": (16, 16),
    "blk.0.attn_k.weight": (8, 16),
    "blk.0.attn_v.weight": (8, 16),
    "blk.0.attn_output.weight": (16, 16),
    "blk.0.ffn_norm.weight": (16,),
    "blk.0.ffn_gate.weight": (24, 16),
    "blk.0.ffn_up.weight": (24, 16),
    "blk.0.ffn_down.weight": (16, 24),
}


def small_llama(
    *,
    architecture: str = "llama",
    settings: dict[str, int | float | bytes | None] | None = None,
    shapes: dict[str, tuple[int, ...] | None] | None = None,
) -> bytes:
    """A valid file of a llama model with one layer of zeros.

    None drops a setting or tensor; a setting of bytes is a whole key.
    """
    all_settings = {**LLAMA_SETTINGS, **(settings or {})}
    keys = [text_key("general.architecture", architecture)]
    for name, value in all_settings.items():
        if value is not None:
            keys.append(value if isinstance(value, bytes) else number_key(name, value))
    words = ("a", "b", "<s>")
    keys.append(array_key("tokenizer.ggml.tokens", STRING, len(words), b"".join(map(string, words))))
    keys.append(array_key("tokenizer.ggml.scores", FLOAT32, len(words), struct.pack("<3f", 0, -1, -2)))
    entries, offset = [], 0
    for name, shape in {**LLAMA_SHAPES, **(shapes or {})}.items():
        if shape is not None:
            entries.append(tensor(name, shape, offset=offset))
            nbytes = 4
            for size in shape:
                nbytes *= size
            offset += -(-nbytes // 32) * 32
    return gguf_file(keys, entries, bytes(offset))
