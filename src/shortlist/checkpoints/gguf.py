"""Opens GGUF files, the format of llama.cpp."""

import math
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from shortlist.checkpoints import rope
from shortlist.checkpoints.base import Checkpoint, MappedFile, StoredTensor, check_tensors
from shortlist.checkpoints.gguf_header import Header, Metadata, read_header
from shortlist.errors import CheckpointError
from shortlist.models.config import ModelConfig
from shortlist.models.families import FAMILIES, Family, canonical_gguf_name


def open_gguf(path: Path) -> Checkpoint:
    """Open a GGUF file.

    Raises
    ------
    CheckpointError
        The file is damaged, contradicts itself, or holds a model or tensor type that is not supported.
    """
    file = MappedFile(path)
    header = read_header(file)
    family = _family(path, header.metadata)
    tensors = _tensors(file, header, family)
    factors = tensors.pop("rope_freqs", None)
    config = _Settings(path, header.metadata, family).config(tensors, factors)
    check_tensors(path, config, tensors)
    return Checkpoint(
        path,
        config,
        tensors,
        files=dict.fromkeys(tensors, file),
        header=[file.buffer[: header.end], len(file.buffer).to_bytes(8, "little")],
        tokenizer_source=header.metadata.with_prefix("tokenizer."),
    )


def _family(path: Path, metadata: Metadata) -> Family:
    architecture = metadata.get("general.architecture")
    for family in FAMILIES.values():
        if family.gguf_architecture == architecture:
            return family
    supported = sorted({family.gguf_architecture for family in FAMILIES.values()})
    raise CheckpointError(
        f"{path} has the architecture {architecture!r:.80}, which is not supported; supported are {', '.join(supported)}"
    )


def _tensors(file: MappedFile, header: Header, family: Family) -> dict[str, StoredTensor]:
    tensors = {}
    for info in header.tensors:
        name = canonical_gguf_name(info.name)
        if name is None:
            raise CheckpointError(
                f"{file.path}: tensor {info.name} does not belong to a {family.name} model as supported here "
                "(mixtures of experts and adapters are not)"
            )
        tensors[name] = StoredTensor(info.name, info.type, info.shape, file.bytes[info.start : info.end])
    return tensors


class _Settings:
    """The metadata of one architecture, read with checks."""

    def __init__(self, path: Path, metadata: Metadata, family: Family):
        self.path = path
        self.metadata = metadata
        self.family = family

    def fail(self, key: str, why: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: {self.family.gguf_architecture}.{key} {why}")

    def value(self, key: str, default: Any = None) -> Any:
        full = f"{self.family.gguf_architecture}.{key}"
        if full in self.metadata:
            return self.metadata[full]
        if default is None:
            self.fail(key, "is missing: fetch the file again, or convert it again")
        return default

    def integer(self, key: str, most: int, default: int | None = None, least: int = 1) -> int:
        value = self.value(key, default)
        if type(value) is not int or not least <= value <= most:
            self.fail(key, f"is {value!r:.80}, but must be one whole number from {least} to {most}")
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.value(key, default)
        if type(value) not in (int, float) or not (math.isfinite(value) and value > 0):
            self.fail(key, f"is {value!r:.80}, but must be a positive number")
        return float(value)

    def config(self, tensors: dict[str, StoredTensor], rope_factors: StoredTensor | None) -> ModelConfig:
        if "embedding" not in tensors:
            raise CheckpointError(f"{self.path} lacks the tensor token_embd.weight: fetch it again, or convert it again")
        family = self.family
        width = self.integer("embedding_length", 1 << 20)
        layers = self.integer("block_count", 1 << 12)
        heads = self.integer("attention.head_count", 1 << 12)
        head_dim = self.integer("attention.key_length", 1 << 12, default=width // heads)
        if self.integer("attention.value_length", 1 << 12, default=head_dim) != head_dim:
            self.fail("attention.value_length", f"differs from the key length {head_dim}, which is not supported")
        windows = self.windows(layers)
        return ModelConfig(
            family=family.name,
            vocab_size=tensors["embedding"].shape[0],
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=self.kv_heads(heads),
            head_dim=head_dim,
            ffn_width=self.integer("feed_forward_length", 1 << 24),
            norm_eps=self.positive("attention.layer_norm_rms_epsilon"),
            norm_offset=0.0,
            context_length=self.integer("context_length", 1 << 30),
            tied_head="head" not in tensors,
            activation=family.activation,
            embedding_scale=math.sqrt(width) if family.scaled_embedding else 1.0,
            attention_scale=self.attention_scale(layers, width, heads, head_dim),
            windows=windows,
            rope_frequencies=self.rope_frequencies(windows, head_dim, rope_factors),
            rope_interleaved=family.gguf_interleaved,
        )

    def kv_heads(self, heads: int) -> int:
        kv_heads = self.integer("attention.head_count_kv", 1 << 12, default=heads)
        if heads % kv_heads:
            self.fail("attention.head_count_kv", f"is {kv_heads}, which does not divide the {heads} heads")
        return kv_heads

    def attention_scale(self, layers: int, width: int, heads: int, head_dim: int) -> float:
        # GGUF has no key for it: llama.cpp knows that Gemma 3 27B, alone with 62 layers, divides by another size.
        if self.family.name == "gemma3" and layers == 62:
            return (width / heads) ** -0.5
        return head_dim**-0.5

    def windows(self, layers: int) -> tuple[int, ...]:
        window = self.integer("attention.sliding_window", 1 << 30, default=0, least=0)
        pattern = self.value("attention.sliding_window_pattern", self.family.global_every)
        if isinstance(pattern, np.ndarray) and pattern.dtype == np.bool_ and len(pattern) == layers:
            return tuple(window if local else 0 for local in pattern)
        if type(pattern) is not int or pattern < 0:
            self.fail("attention.sliding_window_pattern", f"is neither a period nor one flag for each of {layers} layers")
        return tuple(0 if pattern and i % pattern == pattern - 1 else window for i in range(layers))

    def rope_frequencies(
        self, windows: tuple[int, ...], head_dim: int, factors: StoredTensor | None
    ) -> tuple[rope.Frequencies, ...]:
        if self.integer("rope.dimension_count", 1 << 12, default=head_dim) != head_dim or head_dim % 2:
            self.fail("rope.dimension_count", f"is not the head size {head_dim}, and partial rotation is not supported")
        everywhere = rope.plain(self.positive("rope.freq_base", 10_000.0), head_dim)
        local = everywhere
        if self.family.local_rope_base is not None:
            local = rope.plain(self.positive("rope.freq_base_swa", self.family.local_rope_base), head_dim)
        everywhere = self.scaled(everywhere)
        if self.family.local_rope_base is None:
            local = everywhere
        if factors is not None:
            if factors.type != "F32" or factors.shape != (head_dim // 2,):
                raise CheckpointError(f"{self.path}: tensor rope_freqs.weight must hold {head_dim // 2} F32 numbers")
            everywhere = local = rope.divided(everywhere, factors.data.view("<f4"))
        return tuple(local if window else everywhere for window in windows)

    def scaled(self, frequencies: rope.Frequencies) -> rope.Frequencies:
        kind = self.value("rope.scaling.type", "linear")
        if kind == "none":
            return frequencies
        if kind != "linear":
            self.fail("rope.scaling.type", f"is {kind!r:.80}, which is not supported; supported are none and linear")
        return rope.linear(frequencies, self.positive("rope.scaling.factor", 1.0))
