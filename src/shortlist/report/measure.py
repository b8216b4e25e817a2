"""Measures the figures of a report: bytes, recall, quality and speed, rows per token, shares per layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from shortlist import _native
from shortlist.checkpoints import Checkpoint
from shortlist.checkpoints.parts import describe_parts, read_parts
from shortlist.errors import RecipeError, UsageError
from shortlist.fit.own_text import write_passages
from shortlist.measure.recall import Recall, ffn_recalls, head_recalls, main_estimators
from shortlist.measure.tables import Tables
from shortlist.model.decoder import Decoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.recipe import Recipe
from shortlist.report.layers import layer_budgets
from shortlist.report.sample import sentence_start
from shortlist.report.speed import Variant, measure_variants, peer_speed
from shortlist.report.strip import measure_strip
from shortlist.sites.head import Head, exact_head

VERSION = 1
PEER = "llama.cpp"
FRONTIER = ("tokens_per_s", "perplexity_change", "agreement", "bytes_per_token")
"""Fields of a point of a recipe's frontier, beside its name."""

Progress = Callable[[str, float], None]  # (stage, share of it that is done)


@dataclass(frozen=True)
class Sizes:
    """The amount of measuring: positions of text, and rows of the head.

    The defaults take about two minutes of CPU time for a model of 135M weights.
    """

    fit: int = 1024
    test: int = 384
    recall: int = 64
    strip: int = 120
    head_rows: int = 8192
    speed_tokens: int = 48
    fewest: int = 128  # smallest number of tokens of a text


@dataclass(frozen=True)
class Subject:
    """The model of a report.

    Attributes
    ----------
    name : str
        Display name of the model.
    checkpoint : Checkpoint
        The open checkpoint.
    tokenizer : Tokenizer
    dense : Decoder
        The decoder with dense layers.
    decoder : Decoder
        The decoder of the recipe; `dense` itself where the recipe changes no layer.
    head : head
        The shortlisted head.
    recipe : Recipe or None
    threads : int or None
    """

    name: str
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    dense: Decoder
    decoder: Decoder
    head: Head
    recipe: Recipe | None
    threads: int | None = None
    prefix: list[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", self.tokenizer.encode(""))

    def variants(self) -> dict[str, Variant]:
        """The ways to decode that are compared, dense first."""
        rows, cap = self.dense.head_rows, self.dense.logit_cap
        found = {"dense": Variant(self.dense, Head(rows, cap))}
        if self.decoder is self.dense:
            found[self.head.name] = Variant(self.dense, self.head)
        if rows.format == "q8":
            found["exact"] = Variant(self.dense, exact_head(rows, cap))
        if self.decoder is not self.dense:
            found["recipe"] = Variant(self.decoder, self.head)
        return found


def measure(
    subject: Subject,
    text: str | None = None,
    sizes: Sizes = Sizes(),
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Measure all figures of a report.

    Parameters
    ----------
    subject : Subject
    text : str, optional
        The text for fitting, and then for testing. None: the model generates one.
    sizes : Sizes
    progress : callable
        Called with the name of a stage and the share of it that is done.

    Returns
    -------
    dict
        Values for JSON. Bytes are bytes of weights; shares and relative changes are fractions, not per cent.

    Raises
    ------
    UsageError
        The text is too short.
    """
    fit, test = _tokens(subject, text, sizes, progress)
    budgets = layer_budgets(subject.decoder, subject.recipe, test[: sizes.recall])
    variants = subject.variants()
    points = measure_variants(variants, subject.prefix, test, sizes.speed_tokens, progress)
    own = list(variants)[1] if len(variants) > 1 else "dense"
    shown = "recipe" if "recipe" in variants else own
    sample = _sample(subject, test, sizes.strip)
    strip = measure_strip(
        variants[shown], variants["dense"], subject.tokenizer, subject.prefix, sample, progress
    )
    figures = {
        "version": VERSION,
        "model": subject.name,
        "file": subject.checkpoint.path.name,
        "fingerprint": subject.checkpoint.fingerprint,
        "machine": {
            "threads": _native.threads(),
            "isa": _native.isa(),
            "read_gb_s": _native.read_bandwidth_gb_s(),
        },
        "text": {"written_by_the_model": text is None, "fit_tokens": len(fit), "test_tokens": len(test)},
        "bytes": _bytes(subject.checkpoint, points),
        "speed": {
            "points": points,
            "peer": peer_speed(PEER, subject.checkpoint.path, sizes.speed_tokens, progress),
            "frontier": _frontier(subject.recipe),
        },
        "strip": {"head": shown, "rows": subject.dense.head_rows.rows, "tokens": strip},
        "layers": budgets,
    }
    figures["recall"] = _recall(subject, fit, test[: sizes.recall], sizes.head_rows, progress)
    return figures


def _tokens(
    subject: Subject, text: str | None, sizes: Sizes, progress: Progress
) -> tuple[list[int], list[int]]:
    """Tokens for fitting, and the following tokens for testing."""
    wanted = sizes.fit + sizes.test
    if text is None:
        _, written = write_passages(
            subject.dense, subject.tokenizer, wanted, lambda share: progress("writing a text", share)
        )
        tokens = written.tolist()
    else:
        # More characters than the tokens can need: a book is not tokenized to its end.
        tokens = subject.tokenizer.encode(text[: 32 * wanted], add_special=False)[:wanted]
        if len(tokens) < sizes.fewest:
            raise UsageError(
                f"the text has {len(tokens)} tokens and {sizes.fewest} are needed: name a longer one, or "
                "leave out --text to let the model write its own"
            )
    middle = len(tokens) * sizes.fit // wanted
    return tokens[:middle], tokens[middle:]


def _sample(subject: Subject, tokens: list[int], count: int) -> list[int]:
    """`count` tokens from the beginning of a sentence; a shorter text gives at least its half."""
    start = sentence_start(subject.tokenizer, tokens, min(count, len(tokens) // 2))
    if start and not subject.prefix:  # without a prefix, nothing predicts the first token
        return tokens[start - 1 : start + count]
    return tokens[start : start + count]


def _bytes(checkpoint: Checkpoint, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stored bytes of each part, and bytes of it that a token reads, for each way to decode."""
    parts, read = describe_parts(checkpoint), read_parts(checkpoint)
    layer_parts = {
        "attention": read["attention"],
        "feed-forward": read.get("feed-forward", 0) + read.get("experts", 0),
    }
    per_token = {}
    for point in points:
        layers, head = point["layer_bytes"], point["bytes_per_token"] - point["layer_bytes"]
        shares = {name: layers * size / sum(layer_parts.values()) for name, size in layer_parts.items()}
        per_token[point["name"]] = {**shares, "head": head}
    return {"file": parts, "per_token": per_token}


def _frontier(recipe: Recipe | None) -> list[dict[str, Any]]:
    """The frontier that the recipe's tuning measured: the recipe and its candidates."""
    points = recipe.measured.get("frontier", []) if recipe else []
    try:
        return [
            {"name": str(point["name"]), **{name: float(point[name]) for name in FRONTIER}}
            for point in points
        ]
    except (KeyError, TypeError, ValueError):
        raise RecipeError(
            f"the frontier of the recipe of {recipe and recipe.model} is damaged: tune another recipe"
        ) from None


def _recall(
    subject: Subject, fit: Sequence[int], test: Sequence[int], head_rows: int, progress: Progress
) -> dict[str, Any]:
    """Recall of every estimator on a sample of the head's rows, and on the middle feed-forward layer."""
    rows, checkpoint = subject.dense.head_rows, subject.checkpoint
    tables = Tables(checkpoint, subject.prefix, fit, test, subject.threads)
    count = sum(1 for _ in main_estimators(True)) + 1
    head = _collect(
        head_recalls(tables.head(subject.dense), main_estimators, head_rows),
        lambda share: progress("estimating the head", share),
        count,
    )
    found: dict[str, Any] = {
        "head": {"rows": rows.rows, "width": rows.cols, "sample": min(head_rows, rows.rows), "methods": head}
    }
    layer = checkpoint.config.layers // 2
    if f"layers.{layer}.gate" not in checkpoint.tensors:
        return found | {"ffn": None}
    ffn = tables.ffn(layer)
    methods = _collect(
        ffn_recalls(ffn, main_estimators), lambda share: progress("estimating a layer", share), count
    )
    return found | {
        "ffn": {"layer": layer, "neurons": len(ffn.norms), "width": ffn.gate.shape[1], "methods": methods}
    }


def _collect(recalls: Any, progress: Callable[[float], None], count: int) -> list[dict[str, Any]]:
    collected = []
    for done, recall in enumerate(recalls, start=1):
        collected.append(_as_read(recall))
        progress(done / count)
    return collected


def _as_read(recall: Recall) -> dict[str, Any]:
    """The values for JSON. The estimator `exact` holds float32 rows, but a dense head reads packed ones."""
    figures = asdict(recall)
    if recall.estimator == "exact":
        figures["bytes_share"] = 1.0
    return figures
