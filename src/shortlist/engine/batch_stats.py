"""Counters of a batch engine."""

from dataclasses import dataclass


@dataclass
class BatchStats:
    """What happened since the engine began, and what it has at hand now.

    Parameters
    ----------
    slots, queue, kv_tokens
        The limits.
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
        Of the prompts, and those of them that another text had computed.
    generated_tokens
    head_rows, head_bytes
        Read of the head, as if each token were alone.
    dense_steps
        Steps in which the dense head took the place of the exact one, being faster for so many texts.
    """

    slots: int
    queue: int
    kv_tokens: int
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
