"""Measures quality and speed of several ways to decode one model, and of a peer, in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from shortlist import _native
from shortlist.measure.on_text import Pair, compare_on_text
from shortlist.measure.speed import token_seconds
from shortlist.measure.teacher_forced import windows
from shortlist.model.decoder import Decoder
from shortlist.peers import PeerError
from shortlist.peers.bench import prompt_tokens
from shortlist.peers.bench_worker import Worker

PEER_ROUNDS = 3  # the median is reported
PROMPT = 16  # tokens of the text before a timed token


class Variant(NamedTuple):
    """A way to decode."""

    decoder: Decoder
    head: Any


def measure_variants(
    variants: Mapping[str, Variant],
    prefix: Sequence[int],
    tokens: Sequence[int],
    timed: int,
    progress: Callable[[str, float], None],
) -> list[dict[str, Any]]:
    """Measure each variant: quality against dense, bytes per token and tokens per second.

    Parameters
    ----------
    variants : mapping of Variant
        By name; `dense` is the reference.
    prefix, tokens : sequence of int
        The text for measuring quality.
    timed : int
        Number of its positions that are timed.
    """
    seconds = _seconds(variants, prefix, tokens, timed, lambda share: progress("timing", share))
    dense = variants["dense"]
    points = []
    for name, variant in variants.items():
        quality = compare_on_text(
            tokens,
            prefix,
            Pair(*dense),
            Pair(*variant),
            lambda share, name=name: progress(f"comparing: {name}", share),
        )
        figures = quality.shortlisted
        points.append(
            {
                "name": name,
                "positions": quality.tokens,
                "tokens_per_s": 1 / seconds[name],
                "perplexity": figures.perplexity,
                "perplexity_change": figures.perplexity_change,
                "perplexity_change_error": figures.perplexity_change_error,
                "agreement": figures.agreement,
                "rows_share": figures.rows_share,
                "bytes_per_token": figures.bytes_per_token,
                "layer_bytes": variant.decoder.layer_bytes,
            }
        )
    return points


def _seconds(
    variants: Mapping[str, Variant],
    prefix: Sequence[int],
    tokens: Sequence[int],
    timed: int,
    progress: Callable[[float], None],
) -> dict[str, float]:
    """Seconds per token; heads of one decoder are timed in turns."""
    found: dict[str, float] = {}
    for decoder in {id(variant.decoder): variant.decoder for variant in variants.values()}.values():
        heads = {name: variant.head for name, variant in variants.items() if variant.decoder is decoder}
        hidden, _ = next(windows(decoder, tokens, prefix))
        found |= token_seconds(decoder, heads, hidden[:timed], [*prefix, *tokens[:PROMPT]], progress)
    return found


def peer_speed(name: str, path: Path, count: int, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """Tokens per second and bytes per token of another engine, or the reason why there are none."""
    progress(f"timing {name}", 0.0)
    prompt = prompt_tokens(path)
    try:
        with Worker(name, "dense", path, _native.threads()) as worker:
            worker.decode(prompt, count)  # warm-up: the first run is slower
            runs = []
            for done in range(PEER_ROUNDS):
                runs.append(worker.decode(prompt, count))
                progress(f"timing {name}", (done + 1) / PEER_ROUNDS)
    except PeerError as error:
        return {"name": name, "error": str(error)}
    seconds = median(run["seconds"] for run in runs)
    return {
        "name": name,
        "tokens_per_s": count / seconds,
        "bytes_per_token": float(np.mean([run["bytes_per_token"] for run in runs])),
    }
