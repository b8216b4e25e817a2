"""Models of real shapes with random weights: enough to measure speed, and nothing to download.

The `relu` models have a share of active neurons planted in them. The first 32 columns of the residual
stream are the same for every token: the embedding puts 1 there (in units of its deviation), and no layer
adds to them. Every gate has one weight for these columns, such that they lower (or raise) it by t where the
rest of the input makes it a normal variable of deviation 1; the share of neurons with a positive gate is
then the normal tail beyond t. What layers add is kept small beside the embedding, so that this holds in all
of them. The head is a table of its own: one that equals the embedding would repeat a token for ever, and
the same neurons with it.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import gguf
import numpy as np

from shortlist.checkpoints.base import TYPES
from shortlist.errors import ShortlistError, UsageError
from shortlist.measure.random_blocks import FACTORS, random_rows
from shortlist.paths import HOME_VARIABLE, cache_folder

BLOCK = 32  # weights that share a scale in Q8_0
VERSION = 1  # of the files: a change of their content makes new ones
ADDED = 0.05  # what a block of a `relu` model adds, in units of the embedding's deviation


@dataclass(frozen=True)
class Shape:
    """A llama decoder, or an olmoe one if it has experts.

    Parameters
    ----------
    weights
        Type of every matrix but the embedding, which is Q8_0, as quantizers leave it.
    active
        Share of the neurons that fire, planted in a model with ReLU and a head of its own; None: SiLU and a
        tied head.
    experts, experts_per_token
        Every feed-forward layer is a mixture of that many experts, of `ffn_width` each, and the head is a
        table of its own; 0: dense.
    """

    weights: gguf.GGMLQuantizationType
    layers: int = 16
    width: int = 2048
    ffn_width: int = 8192
    heads: int = 32
    kv_heads: int = 8
    vocab_size: int = 49152
    context_length: int = 4096
    active: float | None = None
    experts: int = 0
    experts_per_token: int = 0

    @property
    def architecture(self) -> str:
        return "olmoe" if self.experts else "llama"

    @property
    def tied(self) -> bool:
        return self.active is None and not self.experts

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """Name, rows and columns of every matrix but the embedding; those of experts follow each other."""
        key_rows = self.width // self.heads * self.kv_heads
        for layer in range(self.layers):
            for name, rows, columns in (
                ("attn_q", self.width, self.width),
                ("attn_k", key_rows, self.width),
                ("attn_v", key_rows, self.width),
                ("attn_output", self.width, self.width),
                ("ffn_gate", self.ffn_width, self.width),
                ("ffn_up", self.ffn_width, self.width),
                ("ffn_down", self.width, self.ffn_width),
            ):
                if self.experts and name.startswith("ffn"):
                    yield f"blk.{layer}.{name}_exps.weight", self.experts * rows, columns
                else:
                    yield f"blk.{layer}.{name}.weight", rows, columns

    def norms(self) -> Iterator[str]:
        """Vectors of ones, all as long as the model is wide."""
        for layer in range(self.layers):
            yield f"blk.{layer}.attn_norm.weight"
            yield f"blk.{layer}.ffn_norm.weight"
            if self.experts:
                yield f"blk.{layer}.attn_q_norm.weight"
                yield f"blk.{layer}.attn_k_norm.weight"
        yield "output_norm.weight"

    def routers(self) -> Iterator[str]:
        """Float matrices of one row per expert."""
        for layer in range(self.layers if self.experts else 0):
            yield f"blk.{layer}.ffn_gate_inp.weight"


Q4_0, Q8_0 = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0
SHAPES = {"llama-1b-q4_0": Shape(Q4_0), "llama-1b-q8_0": Shape(Q8_0)} | {
    f"llama-1b-{name.lower()}": Shape(gguf.GGMLQuantizationType[name]) for name in (*FACTORS, "MXFP4")
}
SHAPES |= {f"llama-1b-relu-{percent}": Shape(Q8_0, active=percent / 100) for percent in (8, 16, 32, 64)}
SHAPES["olmoe-q4_0"] = Shape(Q4_0, heads=16, kv_heads=16, ffn_width=1024, experts=64, experts_per_token=8)


def synthetic(name: str) -> Path:
    """The GGUF file of one of `SHAPES`, written to the cache folder the first time.

    Raises
    ------
    UsageError
        There is no such shape.
    ShortlistError
        There is no room for the file; nothing is left of it.
    """
    if name not in SHAPES:
        raise UsageError(f"there is no synthetic model {name}: choose {' or '.join(SHAPES)}")
    path = cache_folder() / "synthetic" / f"{name}-v{VERSION}.gguf"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
                written = Path(folder, path.name)
                write(written, SHAPES[name])
                written.replace(path)
        except OSError as error:
            raise ShortlistError(
                f"{path} cannot be written ({error.strerror}): free some space, or set {HOME_VARIABLE} to "
                "a folder with more"
            ) from None
    return path


def write(path: Path, shape: Shape, seed: int = 0) -> None:
    """Write a model of `shape` with random weights; the same seed writes the same file."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, shape.architecture)
    _describe(writer, shape)
    _add_tokenizer(writer, shape.vocab_size)
    matrices = [("token_embd.weight", shape.vocab_size, shape.width, Q8_0)]
    matrices += [(*matrix, shape.weights) for matrix in shape.matrices()]
    if not shape.tied:
        matrices.append(("output.weight", shape.vocab_size, shape.width, Q8_0))
    for name in shape.norms():
        writer.add_tensor_info(name, [shape.width], np.dtype(np.float32), 4 * shape.width)
    for name in shape.routers():
        size = [shape.experts, shape.width]
        writer.add_tensor_info(name, size, np.dtype(np.float32), 4 * shape.experts * shape.width)
    for name, rows, columns, kind in matrices:
        row_bytes = columns // TYPES[kind.name].weights * TYPES[kind.name].bytes
        size = [shape.experts, rows // shape.experts, row_bytes] if "_exps" in name else [rows, row_bytes]
        writer.add_tensor_info(name, size, np.dtype(np.uint8), rows * row_bytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in shape.norms():
        writer.write_tensor_data(np.ones(shape.width, np.float32))
    for _ in shape.routers():
        rows = rng.standard_normal((shape.experts, shape.width), np.float32)
        writer.write_tensor_data(rows * np.float32(shape.width**-0.5))
    for name, rows, columns, kind in matrices:
        data = random_rows(rng, rows, columns, kind)
        if shape.active is not None:
            _plant(data, name, columns, shape.active)
        writer.write_tensor_data(data)
    writer.close()


def _plant(data: np.ndarray, name: str, columns: int, active: float) -> None:
    """Change the Q8_0 rows [rows, row_bytes] of one matrix as the head of this file says."""
    kind = name.removesuffix(".weight").rpartition(".")[2]
    blocks = data.reshape(len(data), -1, 2 + BLOCK)
    if kind in ("attn_output", "ffn_down"):
        scales = blocks[:, :, :2].copy().view("<f2") * np.float16(ADDED * len(data) ** -0.5)
        blocks[:, :, :2] = scales.view(np.uint8)
        blocks[:BLOCK, :, 2:] = 0
    elif kind in ("token_embd", "ffn_gate"):
        shift = NormalDist().inv_cdf(active) / BLOCK  # in each of the columns, whose input is 1
        value = columns**-0.5 if kind == "token_embd" else shift
        blocks[:, 0, :2] = np.array([value / 127], "<f2").view(np.uint8)
        blocks[:, 0, 2:] = 127


def _describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn_width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(shape.vocab_size)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_per_token)
    if shape.active is not None:
        writer.add_string("llama.hidden_act", "relu")  # a key of ours: llama.cpp would compute SiLU


def _add_tokenizer(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    """Byte-level BPE with a single merge: every text has tokens, and the rest of the vocabulary is filler."""
    letters = [
        *map(chr, (*range(33, 127), *range(161, 173), *range(174, 256)))
    ]  # bytes that stand for themselves
    letters += [chr(256 + i) for i in range(256 - len(letters))]  # and GPT-2's stand-ins for the others
    tokens = ["<|end|>", *letters, "th"]
    tokens += [f"<filler {i}>" for i in range(vocab_size - len(tokens))]
    types = [gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (vocab_size - 1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
