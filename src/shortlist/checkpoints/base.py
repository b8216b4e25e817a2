"""An open checkpoint: a configuration, and tensors in mapped files."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from shortlist import _native
from shortlist.checkpoints.mapped import MappedFile
from shortlist.errors import CheckpointError
from shortlist.spec.config import ModelConfig
from shortlist.spec.expert_tensors import mixture_shapes, shared_router_shapes
from shortlist.spec.families import FAMILIES
from shortlist.spec.families.base import FFN_BIASES, FFN_TENSORS, KEYS_AND_VALUES
from shortlist.spec.tensors import StoredTensor

TYPES = {kind.name: kind for kind in _native.tensor_types()}
"""Every tensor type by its name: a record of the native table (`native/formats/types.cpp`)."""

Shapes = dict[str, tuple[int, ...]]

_MOST_MISSING = 10_000  # missing tensors that are collected; a damaged header may promise millions

# Enough to distinguish two fine-tunes (every weight differs), and quick to read from a cold disk.
_SAMPLES = 32
_SAMPLE_BYTES = 4096


class _Tensors(dict[str, StoredTensor]):
    """Tensors by name. Who looks one up may read it: its file is still as long as when it was mapped."""

    def __init__(self, tensors: dict[str, StoredTensor], files: Mapping[str, MappedFile]):
        super().__init__(tensors)
        self._files = files

    def __getitem__(self, name: str) -> StoredTensor:
        tensor = super().__getitem__(name)
        self._files[name].check()
        return tensor

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


class Checkpoint:
    """An open checkpoint.

    Parameters
    ----------
    path
        The GGUF file or Hugging Face folder.
    config
        Configuration of the model.
    tensors
        Tensors by the decoder's names: `embedding`, `head` (absent when tied), `final_norm`, `layers.{i}.q`,
        ...
    files
        The mapped file of each tensor.
    headers
        The bytes, uint8 [n], that describe tensors and model; a part of the fingerprint.
    tokenizer_source
        For GGUF the `tokenizer.*` metadata, decoded on access (str, bool, int, float, `_native.Strings`, or
        NumPy array of numbers); for Hugging Face the folder.
    sampling_defaults
        The sampling settings in its files: fields of `GenerationOptions` with their values. Fields that no
        file sets are absent.
    notes
        Settings in its files that are not applied unchanged, one line each.

    Attributes
    ----------
    fingerprint : str
        SHA-256 of the headers and of samples of the weights; independent of the file's path.
    """

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        tensors: dict[str, StoredTensor],
        files: dict[str, MappedFile],
        headers: Iterable[np.ndarray],
        tokenizer_source: Mapping[str, Any] | Path,
        sampling_defaults: Mapping[str, float | int] | None = None,
        notes: Iterable[str] = (),
    ):
        self.path = path
        self.config = config
        self.tensors: dict[str, StoredTensor] = _Tensors(tensors, files)
        self.tokenizer_source = tokenizer_source
        self.sampling_defaults = dict(sampling_defaults or {})
        self.notes = tuple(notes)
        self._files = files
        self.fingerprint = _fingerprint(headers, tensors)

    def __repr__(self) -> str:
        what = f"{self.config.family}, {len(self.tensors)} tensors" if self.tensors else "closed"
        return f"<Checkpoint {self.path}: {what}>"

    def release(self, name: str, part: np.ndarray | None = None) -> None:
        """Free the memory of a tensor's mapped pages; an access reads them from the file again.

        Parameters
        ----------
        name
            Name of the tensor.
        part
            A view of its data; by default all of it.
        """
        self._files[name].release(self.tensors[name].data if part is None else part)

    def close(self) -> None:
        """Drop the tensors; a file is unmapped when its last view is freed."""
        self.tensors.clear()
        self._files.clear()
        self.tokenizer_source = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_tensors(
    path: Path, config: ModelConfig, tensors: Mapping[str, StoredTensor], spell: Callable[[str], str]
) -> None:
    """Refuse a checkpoint whose tensors are not exactly those that its configuration needs.

    Parameters
    ----------
    path
        Path of the checkpoint, for messages.
    config
    tensors
        Tensors by the decoder's names.
    spell
        Maps a name of the decoder to the file's name.

    Raises
    ------
    CheckpointError
        A tensor is missing, unknown, or of another shape.
    """
    outside, dense, mixture = _outer_shapes(config), _dense_shapes(config), _mixture_layer_shapes(config)
    lacking = (name for name in needed_tensors(config) if name not in tensors)
    if missing := sorted(islice(lacking, _MOST_MISSING)):
        raise CheckpointError(
            f"{path} lacks {len(missing)} of the tensors of a {config.family} model, "
            f"the first is {spell(missing[0])}: fetch it again, or convert it again"
        )
    for name, tensor in tensors.items():
        prefix, _, rest = name.partition(".")
        number, _, inner = rest.partition(".")
        if prefix == "layers" and int(number) >= config.layers:
            raise CheckpointError(
                f"{path}: tensor {tensor.name} is beyond the {config.layers} layers of the header"
            )
        layer = mixture if inner and config.is_mixture(int(number)) else dense
        expected = layer.get(inner) if inner else outside.get(name)
        if inner and layer is dense:  # layers may have different widths
            expected = _ffn_shapes(config, config.ffn_width_of(int(number))).get(inner, expected)
        if expected is None:
            raise CheckpointError(
                f"{path}: tensor {tensor.name} does not belong to the model that the header describes: "
                "the file is damaged or of an unsupported variant"
            )
        if tensor.shape != expected:
            raise CheckpointError(
                f"{path}: tensor {tensor.name} has shape {tensor.shape}, but the header says {expected}: "
                "the file is damaged or of an unsupported variant"
            )


def needed_tensors(config: ModelConfig) -> Iterator[str]:
    """The tensors that a checkpoint of this configuration must have, by the decoder's names."""
    family = FAMILIES[config.family]
    mixture = _mixture(config)
    yield from (name for name in _outer_shapes(config) if name != "head" or not config.tied_head)
    for i in range(config.layers):
        needed = (*family.mixture_tensors, *mixture) if config.is_mixture(i) else family.layer_tensors
        absent = (*family.extras, *(FFN_BIASES if config.is_mixture(i) else ()))
        needed = (*needed, *(name for name in config.biases if name not in absent))
        unused = () if config.kv_source_of(i) == i else KEYS_AND_VALUES
        yield from (f"layers.{i}.{inner}" for inner in needed if inner not in unused)


def drop_unused(config: ModelConfig, tensors: dict[str, StoredTensor]) -> None:
    """Drop tensors that nothing reads: keys and values of layers that attend to those of other layers."""
    for i in range(config.layers):
        if config.kv_source_of(i) != i:
            for name in KEYS_AND_VALUES:
                tensors.pop(f"layers.{i}.{name}", None)


def _outer_shapes(config: ModelConfig) -> Shapes:
    width = (config.width,)
    shapes: Shapes = {
        "embedding": (config.vocab_size, *width),
        "head": (config.vocab_size, *width),
        "final_norm": width,
    }
    if streams := config.streams:
        inputs = config.layers * streams.input_width
        shapes |= {f"{name}_{i}": 2 * width for name in ("expand", "merge") for i in range(1, streams.count)}
        shapes |= {
            "input_table": (streams.input_vocab_size, inputs),
            "input_projection": (inputs, *width),
            "input_table_norm": (streams.input_width,),
        }
    if config.mixture and config.mixture.router_rank:
        shapes |= shared_router_shapes(config.mixture, config.width)
    return shapes


def _ffn_shapes(config: ModelConfig, ffn: int) -> Shapes:
    biases: Shapes = {name: (ffn,) for name in ("gate_bias", "up_bias") if name in config.biases}
    return biases | {"gate": (ffn, config.width), "up": (ffn, config.width), "down": (config.width, ffn)}


def _dense_shapes(config: ModelConfig) -> Shapes:
    width = (config.width,)
    query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
    wide = FAMILIES[config.family].wide_norms
    shapes: Shapes = _ffn_shapes(config, config.ffn_width) | {
        "attention_norm": width,
        "q": (query, *width),
        "k": (key, *width),
        "v": (key, *width),
        "o": (*width, query),
        "q_norm": (query if wide else config.head_dim,),
        "k_norm": (key if wide else config.head_dim,),
        "post_attention_norm": width,
        "ffn_norm": width,
        "post_ffn_norm": width,
    }
    biases = {
        "q_bias": query,
        "k_bias": key,
        "v_bias": key,
        "o_bias": config.width,
        "down_bias": config.width,
    }
    shapes |= {name: (size,) for name, size in biases.items() if name in config.biases}
    if rank := config.laurel_rank:
        shapes |= {"laurel_left": (rank, *width), "laurel_right": (*width, rank), "laurel_norm": width}
    if streams := config.streams:
        count, inputs = streams.count, streams.input_width
        shapes |= {
            "altup_router": (count, *width),
            "altup_router_norm": width,
            "altup_predict": (count * count, count),
            "altup_correct": (count, count),
            "altup_scale": width,
            "input_gate": (inputs, *width),
            "input_up": (*width, inputs),
            "input_norm": width,
        }
    return shapes


def _mixture_layer_shapes(config: ModelConfig) -> Shapes:
    without = FFN_TENSORS + FFN_BIASES
    shared = {name: shape for name, shape in _dense_shapes(config).items() if name not in without}
    return shared | _mixture(config)


def _mixture(config: ModelConfig) -> Shapes:
    if config.mixture is None:
        return {}
    return mixture_shapes(config.mixture, config.width, gated=FAMILIES[config.family].gated)


def _fingerprint(headers: Iterable[np.ndarray], tensors: Mapping[str, StoredTensor]) -> str:
    digest = hashlib.sha256()
    for header in headers:
        digest.update(f"{header.nbytes} ".encode())
        digest.update(header.data)
    by_size = sorted(tensors.items(), key=lambda item: (-item[1].data.nbytes, item[0]))
    for name, tensor in by_size[:_SAMPLES]:
        digest.update(f"{name} {tensor.data.nbytes}".encode())
        middle = tensor.data.nbytes // 2
        digest.update(tensor.data[middle : middle + _SAMPLE_BYTES].tobytes())
    return digest.hexdigest()
