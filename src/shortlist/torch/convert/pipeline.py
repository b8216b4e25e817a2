"""Converts a dense model, heals it and writes it to a folder, with a table of quality, size and speed."""

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

CALIBRATED = 32  # largest number of sequences for conversion and refit


@dataclass(frozen=True)
class Stage:
    """A row of the table: a model's measurements and its decode speed in the native runtime, in tokens/s."""

    name: str
    measured: Measured
    native: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The object for `--json`."""
        return {"stage": self.name, **asdict(self.measured), "native_tokens_per_s": self.native}


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes
    ----------
    stages
        The dense model, after conversion, after healing.
    notes
        The method's own figures, by name.
    native_note
        The reason why the native runtime cannot read the result; empty where it can.
    """

    stages: tuple[Stage, ...]
    notes: dict[str, float]
    healed: Healed
    interrupted: bool
    native_note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The object for `--json`."""
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
        Names and contents. The first half of each is for calibration and healing, the second for measuring.
        Without texts, the model generates one.
    budget
        Limits of healing; 3 minutes by default.
    report
        Called with the name of a stage and the share of it that is done.

    Raises
    ------
    UsageError
        The folder exists or cannot be written, a text is too short, or the model is not dense or does not
        fit the method.
    CheckpointError
        The dense model's predictions are not finite.
    ShortlistError
        Healing met numbers that are not finite, or the disk is full. Nothing is written then.
    """
    _check(path, folder)
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
        budget = budget or Budget(minutes=3)
        healed = heal(converted, dense, halves.text, method, budget, interrupt=interrupt, report=report)
    save_converted(model, converted.config, tokenizer, folder)
    report("measure", 0.0)
    speed, note = native_speed(folder, threads)
    rows.append(Stage("healed", measure(model, halves.test, converted.config), speed))
    if speed is not None:
        rows[0] = Stage("dense", rows[0].measured, _dense_speed(dense, tokenizer, folder, threads))
    return Conversion(tuple(rows), converted.notes, healed, interrupt.requested, note)


def _check(path: Path, folder: Path) -> None:
    """Check at the start, before minutes are spent, that a model can be converted into a folder."""
    if folder.exists():
        raise UsageError(f"{folder} exists: name a folder that does not")
    check_writable(folder)
    with open_checkpoint(path) as checkpoint:
        if checkpoint.config.mixture:
            raise UsageError(f"{path} has mixtures of experts already: name a dense model")
        if checkpoint.config.streams:
            family = checkpoint.config.family
            raise UsageError(f"{path} is of family {family}, which cannot be converted: name another model")


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
    """Heal a mixture: a least-squares fit where the method asks for it, then gradient steps.

    Raises
    ------
    ShortlistError
        A fit, the loss or a gradient is not finite; the message names it.
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
    """Load the `transformers` model, in float32, and tokenizer of a GGUF file or a Hugging Face folder.

    Raises
    ------
    UsageError
        `transformers` cannot read it.
    """
    source, file = (path, None) if path.is_dir() else (path.parent, path.name)
    try:
        with redirect_stderr(io.StringIO()):  # progress bars that cannot be turned off
            return load_float32(path), transformers.AutoTokenizer.from_pretrained(source, gguf_file=file)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(f"transformers cannot read {path} ({error}): name another model") from None


def some(text: Text) -> Text:
    """Sample the sequences for conversion evenly from a text."""
    rows = torch.linspace(0, len(text.ids) - 1, min(CALIBRATED, len(text.ids))).round().long()
    return Text(text.ids[rows], text.domains[rows])


def _dense_speed(dense: Any, tokenizer: Any, beside: Path, threads: int | None) -> float | None:
    """Decode speed of the dense model with weights of the same type as the converted model's.

    The model is written `beside` the converted one for a moment; None where the disk has no space for that.
    """
    dense.hf_quantizer = None  # a model read from a GGUF file still counts as quantized
    dense.config.__dict__.pop("quantization_config", None)
    try:
        with tempfile.TemporaryDirectory(dir=beside.parent, prefix=".dense-") as folder:
            with redirect_stderr(io.StringIO()):
                dense.bfloat16().save_pretrained(folder)
                tokenizer.save_pretrained(folder)
            return native_speed(Path(folder), threads)[0]
    except (OSError, safetensors.SafetensorError):
        return None
