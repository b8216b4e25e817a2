"""The settings of a server; the command line takes its defaults from here."""

from dataclasses import dataclass

from shortlist.errors import UsageError

CHARACTERS_PER_TOKEN = 16
"""Texts with more characters than this times the prompt limit are refused before they are tokenized."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The settings of a server.

    Parameters
    ----------
    name
        Name of the model for clients.
    slots
        Number of requests that are decoded at once.
    queue
        Number of choices that may wait for a slot; further ones are refused with 429.
    connections
        Number of open connections; further ones are refused with 503.
    kv_tokens
        Positions of KV memory for all slots together; None: a full context for each slot.
    timeout
        Seconds that a request may take, from its first byte to its last.
    max_body
        Largest size of a request's body, in bytes.
    max_prompt
        Largest number of tokens of a prompt; None: as many as the context holds.
    api_keys
        Accepted keys, one of which a request must send; empty: no key is needed.
    cors
        Origins of web pages that may use the server.
    audit
        Compare every n-th token with the dense head; None: none.
    log_prompts
        Whether texts are written to the log.

    Raises
    ------
    UsageError
        A value is out of range.
    """

    name: str
    slots: int = 8
    queue: int = 64
    connections: int = 512
    kv_tokens: int | None = None
    timeout: float = 600.0
    max_body: int = 8_000_000
    max_prompt: int | None = None
    api_keys: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    audit: int | None = None
    log_prompts: bool = False

    def __post_init__(self) -> None:
        for name in (
            "slots",
            "queue",
            "connections",
            "kv_tokens",
            "timeout",
            "max_body",
            "max_prompt",
            "audit",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"--{name.replace('_', '-')} must be above 0, not {value}")
        if any(not key for key in self.api_keys):
            raise UsageError("an API key is empty: give one, or leave --api-key out")
