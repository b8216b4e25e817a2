"""The cost of a request: tokens in OpenAI's fields, rows and bytes read, and times of its parts."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from shortlist.engine.generation import Generation
from shortlist.server.metrics import Metrics
from shortlist.server.service import Answer

PARTS = ("queue", "tokenize", "prefill", "decode", "sampling", "transport")


@dataclass
class Clock:
    """The times of one request that the engine does not measure.

    Parameters
    ----------
    arrived
        Time of the first byte, by `time.perf_counter`.
    tokenizing
        Time at which the body was parsed.
    scored
        Seconds spent on log-probabilities of prompts.
    """

    arrived: float
    tokenizing: float = field(default_factory=time.perf_counter)
    scored: float = 0.0

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """A context manager that adds its time to `scored`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.scored += time.perf_counter() - started

    def parts(self, answers: Sequence[Answer]) -> dict[str, float]:
        """Seconds by part; they add up to the time since the request arrived.

        Choices are generated at once, so the one that ended last counts. `transport` is the time to receive
        the body, and the time after the last token.
        """
        parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        parts["prefill"] = self.scored
        parts["transport"] = self.tokenizing - self.arrived
        if not answers:
            parts["tokenize"] = time.perf_counter() - self.tokenizing - self.scored
            return parts
        last = max(answers, key=lambda answer: answer.ended)
        parts["queue"] = last.timings.queue
        parts["prefill"] += last.timings.prefill
        parts["decode"] = last.timings.decode
        parts["sampling"] = last.timings.sampling
        parts["tokenize"] = last.submitted - self.tokenizing - self.scored
        parts["transport"] += time.perf_counter() - last.ended
        return parts


def usage(
    prompt_tokens: int, cached_tokens: int, answers: Sequence[Answer], clock: Clock, metrics: Metrics
) -> dict[str, Any]:
    """OpenAI's `usage`, with our own figures in the field `shortlist`.

    Parameters
    ----------
    prompt_tokens
        Tokens of all prompts, each counted once.
    cached_tokens
        Number of these tokens that came from the prefix cache.
    answers
        The answers, all ended.
    """
    generations = [answer.generation for answer in answers]
    completion_tokens = sum(len(each.tokens) for each in generations)
    parts = clock.parts(answers)
    metrics.observe_parts(parts)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
        "shortlist": {**what_was_read(generations), "timings": parts},
    }


def what_was_read(generations: Sequence[Generation]) -> dict[str, Any]:
    """Rows and bytes read for some texts, and the result of an audit.

    `bytes_per_token` counts every text as if it were alone; requests that are decoded together share reads.
    """
    stats = [each.stats for each in generations]
    draws = sum(each.draws for each in stats)
    rows = sum(each.head_rows for each in stats)
    audited = sum(each.audited for each in stats)
    known = [each for each in stats if each.bytes_per_token is not None]
    total_bytes = sum((each.bytes_per_token or 0.0) * each.draws for each in known)
    return {
        "head": stats[0].head if stats else None,
        "rows_read": rows,
        "rows_share": rows / (draws * stats[0].vocab_size) if draws else None,
        "bytes_per_token": total_bytes / draws if draws else None,
        "full_draws": sum(each.full_draws for each in stats),
        "audited": audited,
        "agreement": sum(each.agreed for each in stats) / audited if audited else None,
        "seeds": [each.seed for each in generations],
    }
