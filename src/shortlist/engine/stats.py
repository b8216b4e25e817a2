"""What a generation cost, and what an engine did: time, bytes, head rows, memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from shortlist.memory import peak_rss_bytes
from shortlist.sites.head import Read


@dataclass
class RunStats:
    """Filled while a text is generated.

    The first token counts to prefill, because it needs no decode step; so `decode_tokens_per_s` is what
    other engines call their evaluation speed.

    Parameters
    ----------
    head
        `dense`, `estimated` or `exact`.
    vocab_size
    layer_bytes
        Weight bytes that each decode step reads apart from the head, on average where layers are shortlisted.
    prompt_tokens
    reused_tokens
        Those of the prompt that were in the KV cache already.
    prefill_seconds
        Until the first token was chosen.
    decode_seconds
        From then on, without the time that the caller spent between tokens.
    draws
        Tokens that were chosen, one that ended the text included.
    head_rows, head_bytes
        What choosing them read of the head.
    full_draws
        How many of them had to read all rows: the exact head's bounds did not settle the draw, or the
        estimated head does not estimate under a bias or a constraint.
    audited, agreed
        Tokens that were compared with the choice of the dense head, and those that equalled it.
    expert_loads : int64 [mixtures, experts] or None
        Tokens that chose each expert, those of texts that were computed at the same time included.
    """

    head: str
    vocab_size: int
    layer_bytes: int
    prompt_tokens: int
    reused_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    draws: int = 0
    head_rows: int = 0
    head_bytes: int = 0
    full_draws: int = 0
    audited: int = 0
    agreed: int = 0
    expert_loads: np.ndarray | None = None

    def add(self, seconds: float, read: Read, *, full: bool, agrees: bool | None = None) -> None:
        """Count one token: the time since the one before, what choosing it read, and how an audit ended."""
        if self.draws == 0:
            self.prefill_seconds += seconds
        else:
            self.decode_seconds += seconds
        self.draws += 1
        self.head_rows += read.rows
        self.head_bytes += read.bytes
        self.full_draws += full
        if agrees is not None:
            self.audited += 1
            self.agreed += agrees

    @property
    def seconds(self) -> float:
        """Until the latest token, without what passed between tokens."""
        return self.prefill_seconds + self.decode_seconds

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """Prompt tokens that were not in the cache, per second."""
        return _ratio(self.prompt_tokens - self.reused_tokens, self.prefill_seconds)

    @property
    def decode_tokens_per_s(self) -> float | None:
        """None where there was no second token."""
        return _ratio(self.draws - 1, self.decode_seconds)

    @property
    def bytes_per_token(self) -> float | None:
        """Weight bytes that a decode step reads; the KV cache is not counted."""
        return self.layer_bytes + self.head_bytes / self.draws if self.draws else None

    @property
    def head_rows_share(self) -> float | None:
        """Mean share of the head's rows that were read exactly."""
        return _ratio(self.head_rows, self.draws * self.vocab_size)

    @property
    def agreement(self) -> float | None:
        """Share of the audited tokens that the dense head would have chosen too; None where none was."""
        return _ratio(self.agreed, self.audited)

    @property
    def experts(self) -> dict[str, Any] | None:
        """What was read of the mixtures of experts, as `describe_loads` says it; None in a dense model."""
        computed = self.prompt_tokens - self.reused_tokens + self.draws - 1
        return None if self.expert_loads is None else describe_loads(self.expert_loads, computed)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "head": self.head,
            "prompt_tokens": self.prompt_tokens,
            "reused_tokens": self.reused_tokens,
            "prefill_tokens_per_s": self.prefill_tokens_per_s,
            "generated_tokens": self.draws,
            "decode_tokens_per_s": self.decode_tokens_per_s,
            "bytes_per_token": self.bytes_per_token,
            "head_rows_share": self.head_rows_share,
            "full_draws": self.full_draws,
            "audited": self.audited,
            "agreement": self.agreement,
            "peak_rss_mb": peak_rss_bytes() / 1e6,
            **({"experts": self.experts} if self.experts else {}),
        }


@dataclass
class EngineStats:
    """What happened since the engine began, and what it has at hand now.

    Parameters
    ----------
    slots, kv_tokens, queue
        The limits; an engine without a worker of its own has no queue.
    running, waiting
        Requests with a slot and without one, now.
    kv_tokens_used
        Positions of the KV memory that are taken or promised, now.
    submitted, finished, cancelled, failed, refused
        Requests; refused ones found the queue full.
    steps
        Passes of the decoder.
    step_seconds, head_seconds
        In the decoder, and in heads and the choice of tokens.
    prompt_tokens, reused_tokens
        Tokens of the prompts, and those of them that another text had computed.
    generated_tokens
    head_rows, head_bytes
        Read of the head, as if each token were alone.
    dense_steps
        Steps in which the dense head took the place of the exact one, being faster for so many texts.
    """

    slots: int
    kv_tokens: int
    queue: int = 0
    running: int = 0
    waiting: int = 0
    kv_tokens_used: int = 0
    submitted: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    head_seconds: float = 0.0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    head_rows: int = 0
    head_bytes: int = 0
    dense_steps: int = 0

    def add(self, counts: RunStats, read: Read) -> None:
        """Count a token of a generation, and what choosing it read."""
        if counts.draws == 1:
            self.reused_tokens += counts.reused_tokens
        self.generated_tokens += 1
        self.head_rows += read.rows
        self.head_bytes += read.bytes


def _ratio(amount: float, over: float) -> float | None:
    return amount / over if over > 0 and amount >= 0 else None


def describe_loads(loads: np.ndarray, tokens: int) -> dict[str, Any] | None:
    """What a run read of its mixtures of experts; None where there are none, or nothing was computed.

    Parameters
    ----------
    loads : int [mixtures, experts]
        Tokens that chose each expert.
    tokens
        That went through every mixture.

    Returns
    -------
    dict
        `per_token`: experts that a token computed in a mixture, on average. `busiest`: the most loaded expert
        of a mixture in units of its mean load, the worst of all mixtures. `unused`: experts that no token
        chose. `loads`: for each mixture and expert the share of the tokens that chose it.
    """
    if not loads.size or tokens < 1:
        return None
    mixtures, experts = loads.shape
    return {
        "mixtures": mixtures,
        "experts": experts,
        "per_token": float(loads.sum() / (mixtures * tokens)),
        "busiest": float((loads.max(axis=1) / loads.mean(axis=1)).max()),
        "unused": int((loads == 0).sum()),
        "loads": (loads / tokens).round(4).tolist(),
    }
