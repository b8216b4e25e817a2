"""From a request for texts to a response, whole or streamed: what completions and chats have in common."""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi.responses import Response

from shortlist.engine.events import PromptEvent, TokenEvent
from shortlist.engine.options import GenerationOptions
from shortlist.server.errors import ApiError, json_response
from shortlist.server.schemas import GenerationBody
from shortlist.server.service import Answer, Service
from shortlist.server.streaming import DONE, EventStream, event, merged
from shortlist.server.usage import Clock, usage

GREATEST_SEED = 2**64

Choice = dict[str, Any]


class Format(Protocol):
    """How an endpoint writes choices; `place` is the index of one."""

    id: str
    whole: str
    chunk: str

    def choice(self, place: int, answer: Answer) -> Choice:
        """A choice that has ended."""
        ...

    def opening(self, place: int) -> Choice | None:
        """What a stream tells of a choice before its first token."""
        ...

    def waiting(self, place: int) -> Choice:
        """What a stream tells of a choice that has no new token."""
        ...

    def piece(self, place: int, token: TokenEvent) -> Choice:
        """What a stream tells of a token."""
        ...

    def closing(self, place: int, answer: Answer) -> Choice:
        """What a stream tells at the end of a choice."""
        ...


@dataclass(frozen=True)
class Texts:
    """The texts that a request asks for.

    Parameters
    ----------
    requests
        Prompt and options of each choice.
    prompt_tokens
        Of all prompts, each counted once.
    """

    requests: Sequence[tuple[Sequence[int], GenerationOptions]]
    prompt_tokens: int

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], options: GenerationOptions, count: int) -> "Texts":
        """`count` texts for each prompt; with a seed they have seeds of their own."""
        seed = options.seed
        seeds = [None if seed is None else (seed + i) % GREATEST_SEED for i in range(count)]
        requests = [(prompt, dataclasses.replace(options, seed=each)) for prompt in prompts for each in seeds]
        return cls(requests, sum(len(prompt) for prompt in prompts))


def generation_options(
    body: GenerationBody, service: Service, *, max_tokens: int | None, logprobs: int | None
) -> GenerationOptions:
    """The engine's options for a body; what it leaves open is as OpenAI has it.

    Raises
    ------
    ApiError, UsageError
        A value cannot be used.
    """
    given = {
        name: value
        for name in (
            "top_p",
            "top_k",
            "min_p",
            "repetition_penalty",
            "frequency_penalty",
            "presence_penalty",
            "seed",
            "stop",
        )
        if (value := getattr(body, name)) is not None
    }
    own = body.shortlist
    try:
        constraint = body.response_format and body.response_format.constraint()
        biases = {int(token): bias for token, bias in (body.logit_bias or {}).items()}
    except ValueError as error:
        raise ApiError(400, f"response_format or logit_bias: {error}") from None
    return GenerationOptions(
        **given,
        temperature=1.0 if body.temperature is None else body.temperature,
        logit_bias=biases,
        constraint=constraint,
        max_tokens=max_tokens,
        logprobs=logprobs,
        dense_head=bool(own and own.head == "dense"),
        audit=(own and own.audit) or service.settings.audit,
        trace=bool(own and own.trace and body.stream),
    )


async def respond(
    service: Service, body: GenerationBody, texts: Texts, form: Format, clock: Clock
) -> Response:
    """Generate the texts and write the response; a stream is submitted here and sent by what is returned."""
    envelope = {
        "id": form.id,
        "object": form.chunk if body.stream else form.whole,
        "created": int(time.time()),
        "model": service.settings.name,
        "system_fingerprint": service.fingerprint,
    }
    if body.stream:
        work = contextlib.AsyncExitStack()
        progress = bool(body.shortlist and body.shortlist.progress)
        answers = await work.enter_async_context(service.answers(texts.requests, progress=progress))
        chunks = _chunks(service, body, texts, form, clock, envelope, answers)
        return EventStream(chunks, work, service.settings.timeout)
    async with service.answers(texts.requests) as answers:
        for answer in answers:
            async for _ in answer:
                pass
    service.log_text("answers", [answer.generation.text for answer in answers])
    choices = [form.choice(place, answer) for place, answer in enumerate(answers)]
    cost = usage(texts.prompt_tokens, answers, clock, service.metrics)
    return json_response({**envelope, "choices": choices, "usage": cost})


async def _chunks(
    service: Service,
    body: GenerationBody,
    texts: Texts,
    form: Format,
    clock: Clock,
    envelope: dict[str, Any],
    answers: Sequence[Answer],
) -> AsyncGenerator[bytes]:
    """The events of a stream."""
    trace = bool(body.shortlist and body.shortlist.trace)
    # As OpenAI has it: where usage is asked for, all other chunks say that it is not known yet.
    tail: dict[str, Any] = {"usage": None} if body.include_usage else {}

    def chunk(choice: Choice) -> bytes:
        return event({**envelope, "choices": [choice], **tail})

    for place in range(len(answers)):
        if opening := form.opening(place):
            yield chunk(opening)
    async for place, token in merged(answers):
        if token is None:
            yield chunk(form.closing(place, answers[place]))
        elif isinstance(token, PromptEvent):
            read = {"prompt_read": token.read, "prompt_tokens": token.total}
            yield chunk({**form.waiting(place), "shortlist": read})
        elif trace:
            yield chunk({**form.piece(place, token), "shortlist": what_was_read(token)})
        elif token.text or token.chosen.logprobs:
            yield chunk(form.piece(place, token))
    service.log_text("answers", [answer.generation.text for answer in answers])
    cost = usage(texts.prompt_tokens, answers, clock, service.metrics)
    if body.include_usage:
        yield event({**envelope, "choices": [], "usage": cost})
    yield DONE


def what_was_read(token: TokenEvent) -> dict[str, Any]:
    """For the trace of a stream."""
    chosen = token.chosen
    return {
        "token": chosen.token,
        "rows_read": chosen.read.rows,
        "rows_share": token.share,
        "bytes_read": token.bytes_read,
        "full": chosen.full,
        "dense_rank": chosen.dense_rank,
        "agrees": chosen.agrees,
        "trace_seconds": chosen.trace_seconds,
        "candidates": [each.to_dict() for each in chosen.candidates or ()],
    }


def new_id(prefix: str) -> str:
    """An id that nobody else has."""
    return f"{prefix}-{secrets.token_hex(12)}"
