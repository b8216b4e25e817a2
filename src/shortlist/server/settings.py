"""What a server allows and how it behaves; the command line borrows its defaults from here."""

from dataclasses import dataclass

from shortlist.errors import UsageError

CHARACTERS_PER_TOKEN = 16
"""Texts longer than the prompt limit times this are refused before they are cut into tokens."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Limits and habits of a server.

    Parameters
    ----------
    name
        What clients call the model.
    slots
        Requests that are worked on at once.
    queue
        Choices that may wait for a slot; more are refused with 429.
    connections
        Connections at once; more are refused with 503.
    kv_tokens
        Positions of KV memory for all slots together; None: the context for each.
    timeout
        Seconds that a request may take from its first byte to its last.
    max_body
        Bytes of a request's body.
    max_prompt
        Tokens of a prompt; None: as many as the context holds.
    api_keys
        Any of these must be sent; empty: none is asked for.
    cors
        Origins whose pages may use the server from a browser.
    audit
        Compare every so many tokens with the dense head; None compares none.
    log_prompts
        Whether texts may stand in the log.

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
