"""The configuration of a training run, and its files."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from shortlist.errors import UsageError
from shortlist.torch.train.tables import REST, check_range, from_table, to_table

FILE_NAME = "training.json"
"""The configuration in the folder of a run, with every default filled in."""

USUAL_LOSSES = {"load_balance": 0.01, "router_z": 0.001}


@dataclass(frozen=True)
class DataConfig:
    """Table `[data]`: the text.

    Parameters
    ----------
    text
        Files in UTF-8 to train on, relative to the configuration's own folder.
    validation
        Files to validate on. Without any, the end of each text is used for validation.
    validation_share
        The share of each text that is used so.
    tokenizer
        A model or folder whose tokenizer is used. Without one, a byte-level BPE is trained on the text.
    vocabulary
        Number of tokens of that BPE.
    """

    text: tuple[str, ...]
    validation: tuple[str, ...] = ()
    validation_share: float = 0.05
    tokenizer: str | None = None
    vocabulary: int = 2048

    def __post_init__(self) -> None:
        if not self.text:
            raise UsageError("text names no file: name at least one to train on")
        check_range("validation_share", self.validation_share, 0.001, 0.9)
        check_range("vocabulary", self.vocabulary, 257, 1 << 20)


@dataclass(frozen=True)
class ModelConfig:
    """Table `[model]`: a `transformers` decoder, with the names of that library.

    Parameters
    ----------
    type
        `model_type` of any causal language model that `transformers` knows.
    hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads
        Sizes; a model of the default sizes trains within minutes on two cores.
    tie_word_embeddings
        Whether head and embedding share their weights.
    start
        Folder of a dense run of the same sizes; training starts from its weights. Experts then start as
        copies of the dense layers.
    options
        Further arguments of the configuration class of that type.
    """

    type: str = "llama"
    hidden_size: int = 128
    intermediate_size: int = 352
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    tie_word_embeddings: bool = True
    start: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, metadata=REST)

    def __post_init__(self) -> None:
        for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            check_range(key, getattr(self, key), 1, 1 << 20)
        check_range("num_key_value_heads", self.num_key_value_heads, 1, self.num_attention_heads)
        if self.num_attention_heads % self.num_key_value_heads:
            raise UsageError(
                f"num_attention_heads, {self.num_attention_heads}, must be a multiple of "
                f"num_key_value_heads, {self.num_key_value_heads}"
            )
        if "head_dim" not in self.options and self.hidden_size % self.num_attention_heads:
            raise UsageError(
                f"hidden_size, {self.hidden_size}, must be a multiple of num_attention_heads, "
                f"{self.num_attention_heads}, or head_dim must be given"
            )


@dataclass(frozen=True)
class GateConfig:
    """Table `[moe.gate]`: one of `shortlist.torch.gates.GATES`.

    Parameters
    ----------
    kind
        Name of the gate.
    wrap
        Names of `shortlist.torch.gates.WRAPPERS` that wrap it, the innermost first.
    options
        Arguments of the gate, such as `k`.
    """

    kind: str = "softmax"
    wrap: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True)
class MoEConfig:
    """Table `[moe]`: experts in place of the feed-forward layers. Without it the model is dense.

    Parameters
    ----------
    experts
        Number of experts of every layer, or a list with a number for each layer; 0 keeps a layer dense.
    width
        Neurons of an expert; by default as many as the replaced dense layer has.
    shared
        Neurons of a shared expert, which computes every token.
    masked
        Where experts start as copies: the share of a copy's neurons that starts at zero, drawn for each.
    gate
        The gate, which chooses the experts of a token.
    losses
        Weights of the gate's auxiliary losses by name, such as `load_balance`; other losses are left out.
        Without the table, the weights are those of `USUAL_LOSSES` that the gate gives.
    """

    experts: int | tuple[int, ...] = 8
    width: int | None = None
    shared: int = 0
    masked: float = 0.1
    gate: GateConfig = GateConfig()
    losses: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for count in (self.experts,) if isinstance(self.experts, int) else self.experts:
            check_range("experts", count, 0, 1 << 14)
        if self.width is not None:
            check_range("width", self.width, 1, 1 << 20)
        check_range("shared", self.shared, 0, 1 << 20)
        check_range("masked", self.masked, 0, 1)
        for name, weight in (self.losses or {}).items():
            if not math.isfinite(weight):
                raise UsageError(f"losses.{name} must be finite, not {weight}")


@dataclass(frozen=True)
class LoopConfig:
    """Table `[training]`: optimizer, length and precision.

    Parameters
    ----------
    steps
        Steps of the optimizer (AdamW).
    batch, context
        Sequences in a step, and tokens in a sequence.
    learning_rate, schedule, warmup
        The largest learning rate, its schedule afterwards (`transformers.get_scheduler`), and the number of
        steps until it is reached.
    weight_decay
        Weight decay of matrices; norms and biases have none.
    clip
        Largest norm of the gradient.
    seed
        Seed of the weights, the order of the text and random gates.
    precision
        `bfloat16` uses autocast; weights stay float32.
    device
        A PyTorch device name; `auto` is a GPU where there is one.
    log_every, validate_every, checkpoint_every
        Steps between lines of metrics, validations and checkpoints. The last step has all three.
    validation_tokens
        Largest number of tokens in a validation.
    """

    steps: int = 1000
    batch: int = 16
    context: int = 128
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: int = 50
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    log_every: int = 10
    validate_every: int = 200
    checkpoint_every: int = 200
    validation_tokens: int = 32_768

    def __post_init__(self) -> None:
        for key in ("steps", "batch", "log_every", "validate_every", "checkpoint_every", "validation_tokens"):
            check_range(key, getattr(self, key), 1)
        check_range("context", self.context, 2, 1 << 20)
        check_range("warmup", self.warmup, 0)
        check_range("seed", self.seed, 0, (1 << 63) - 1)
        for key in ("learning_rate", "weight_decay", "clip"):
            check_range(key, getattr(self, key), 0)


@dataclass(frozen=True)
class Config:
    """A whole configuration; each field is a table of the file. All tables but `[data]` are optional."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    moe: MoEConfig | None = None
    training: LoopConfig = LoopConfig()


def read_config(path: str | Path) -> Config:
    """Read a TOML file, or the JSON file of a run. Paths in it are relative to its folder.

    Raises
    ------
    UsageError
        The file cannot be read, is not TOML, or has a wrong key or value; the message names it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): name a TOML file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8: convert it, for example with iconv") from None
    try:
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} does not hold tables: write [data], [model] and [training] there")
    config = from_table(Config, document, f"{path}: ")
    data, model = config.data, config.model
    return replace(
        config,
        data=replace(
            data,
            text=tuple(_beside(path, name) for name in data.text),
            validation=tuple(_beside(path, name) for name in data.validation),
        ),
        model=replace(model, start=model.start and _beside(path, model.start)),
    )


def config_json(config: Config) -> str:
    """The text of a file that `read_config` reads back as the same configuration."""
    return json.dumps(to_table(config), indent=1, ensure_ascii=False) + "\n"


def _beside(config: Path, name: str) -> str:
    return str(config.absolute().parent / Path(name).expanduser())
