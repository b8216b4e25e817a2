"""From a dense model to a healed mixture in a folder, with what it costs and saves."""

from __future__ import annotations

import copy
import io
import math
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import safetensors
import torch
import transformers

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError, ShortlistError, UsageError
from shortlist.paths import check_writable
from shortlist.torch.convert.base import Converted, ConvertOptions, Method, Report, Text
from shortlist.torch.convert.heal import Budget, Healed, distill
from shortlist.torch.convert.measure import Measured, measure
from shortlist.torch.convert.native import native_speed
from shortlist.torch.convert.refit import refit
from shortlist.torch.convert.texts import read_halves, write_halves
from shortlist.torch.converted_files import check_space, save_converted
from shortlist.torch.float32 import load_float32
from shortlist.torch.train.interrupt import Interrupt
from shortlist.torch.train.not_finite import NotFiniteError, first_in_forward

CALIBRATED = 32  # sequences that conversion and refit see at most


@dataclass(frozen=True)
class Stage:
    """A row of the table: a model and how fast the native runtime decodes it, in tokens/s."""

    name: str
    measured: Measured
    native: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"stage": self.name, **asdict(self.measured), "native_tokens_per_s": self.native}


@dataclass(frozen=True)
class Conversion:
    """What came of a conversion.

    Attributes
    ----------
    stages
        The dense model, after conversion, after healing.
    notes
        Of the method, by name.
    native_note
        Why the native runtime cannot read the result; empty where it can.
    """

    stages: tuple[Stage, ...]
    notes: dict[str, float]
    healed: Healed
    interrupted: bool
    native_note: str = ""

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "stages": [stage.to_json() for stage in self.stages],
            "notes": self.notes,
            "heal_tokens": self.healed.tokens,
            "heal_seconds": self.healed.seconds,
            "interrupted": self.interrupted,
            "native_note": self.native_note,
        }


def convert_checkpoint(
    path: Path,
    method: Method,
    folder: Path,
    *,
    texts: Sequence[tuple[str, str]] = (),
    options: ConvertOptions | None = None,
    budget: Budget | None = None,
    threads: int | None = None,
    report: Report = lambda stage, share: None,
) -> Conversion:
    """Convert a dense model, heal it, and write it to a folder.

    Parameters
    ----------
    path
        A GGUF file or a Hugging Face folder.
    texts
        Names and contents; the first half of each is for calibration and healing, the second is measured
        on. With none, the model writes its own.
    budget
        Of healing; 3 minutes by default.
    report
        Called with stages and the share of each that is done.

    Raises
    ------
    UsageError
        The folder exists or cannot be written, a text is too short, or the model is no dense one that fits
        the method.
    CheckpointError
        The dense model predicts what is not finite.
    ShortlistError
        Healing came to numbers that are not finite, or the folder has no space. Nothing is written then.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists: name a folder that does not")
    check_writable(folder)
    with open_checkpoint(path) as checkpoint:
        if checkpoint.config.mixture:
            raise UsageError(f"{path} has mixtures of experts already: name a dense model")
        if checkpoint.config.streams:
            family = checkpoint.config.family
            raise UsageError(f"{path} is of family {family}, which cannot be converted: name another model")
    if threads:
        torch.set_num_threads(threads)
    halves = read_halves(path, texts) if texts else write_halves(path, lambda share: report("write", share))
    dense, tokenizer = load_dense(path)
    model = copy.deepcopy(dense)
    rows = [Stage("dense", measure(dense, halves.test))]
    if math.isnan(rows[0].measured.perplexity):
        where = first_in_forward(dense, halves.test[:1])
        raise CheckpointError(f"{path} predicts no numbers, beginning with {where}: fetch it again")
    converted = method.convert(model, some(halves.text), options or ConvertOptions(), report)
    rows.append(Stage("converted", measure(model, halves.test, converted.config)))
    check_space(model, folder)
    with Interrupt() as interrupt:
        healed = heal(
            converted,
            dense,
            halves.text,
            method,
            budget or Budget(minutes=3),
            interrupt=interrupt,
            report=report,
        )
    save_converted(model, converted.config, tokenizer, folder)
    report("measure", 0.0)
    speed, note = native_speed(folder, threads)
    rows.append(Stage("healed", measure(model, halves.test, converted.config), speed))
    if speed is not None:
        rows[0] = Stage("dense", rows[0].measured, _dense_speed(dense, tokenizer, folder, threads))
    return Conversion(tuple(rows), converted.notes, healed, interrupt.requested, note)


def heal(
    converted: Converted,
    dense: Any,
    text: Text,
    method: Method,
    budget: Budget,
    *,
    interrupt: Interrupt | None = None,
    report: Report = lambda stage, share: None,
) -> Healed:
    """Bring a mixture back to the dense model: least squares where the method asks for it, then steps.

    Raises
    ------
    ShortlistError
        A fit, the loss or a gradient is not finite; the message says where.
    """
    started = perf_counter()

    def used(tokens: int) -> float:
        return 1.0 if interrupt and interrupt.requested else budget.used(started, tokens)

    try:
        if method.refits:
            ids = some(text).ids
            refit(converted.model, dense, ids, lambda share: report("refit", share), lambda: used(0) >= 1)
        with method.healing(converted):
            return distill(
                converted.model,
                dense,
                text.ids,
                method.trained(converted.model),
                used,
                text_weight=method.text_weight,
                report=lambda share: report("heal", share),
            )
    except NotFiniteError as error:
        raise ShortlistError(
            f"healing, {error}: nothing was written; --heal-tokens 0 leaves healing out"
        ) from None


def load_dense(path: Path) -> tuple[Any, Any]:
    """Model, in float32, and tokenizer of `transformers`, of a GGUF file or a Hugging Face folder.

    Raises
    ------
    UsageError
        `transformers` cannot read it.
    """
    source, file = (path, None) if path.is_dir() else (path.parent, path.name)
    try:
        with redirect_stderr(io.StringIO()):  # bars of its own, which cannot be turned off
            return load_float32(path), transformers.AutoTokenizer.from_pretrained(source, gguf_file=file)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(f"transformers cannot read {path} ({error}): name another model") from None


def some(text: Text) -> Text:
    """As many sequences as conversion sees, from all parts of a text."""
    rows = torch.linspace(0, len(text.ids) - 1, min(CALIBRATED, len(text.ids))).round().long()
    return Text(text.ids[rows], text.domains[rows])


def _dense_speed(dense: Any, tokenizer: Any, beside: Path, threads: int | None) -> float | None:
    """Decode speed of the dense model with weights of the same type as the converted one's.

    None where there is no space to write that model `beside` the converted one, if for a moment.
    """
    dense.hf_quantizer = None  # a model that was read from a GGUF file still counts as quantized
    dense.config.__dict__.pop("quantization_config", None)
    try:
        with tempfile.TemporaryDirectory(dir=beside.parent, prefix=".dense-") as folder:
            with redirect_stderr(io.StringIO()):
                dense.bfloat16().save_pretrained(folder)
                tokenizer.save_pretrained(folder)
            return native_speed(Path(folder), threads)[0]
    except (OSError, safetensors.SafetensorError):
        return None
