"""Generates the texts of a request and writes the response, whole or streamed, for completions and chats."""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi.responses import Response

from shortlist.engine.constraints import Constraint
from shortlist.engine.events import PromptEvent, TokenEvent
from shortlist.engine.options import GenerationOptions
from shortlist.server.errors import ApiError, json_response
from shortlist.server.schemas import GenerationBody
from shortlist.server.service import Answer, Service
from shortlist.server.streaming import DONE, EventStream, event, merged
from shortlist.server.usage import Clock, usage
from shortlist.server.values import GREATEST_SEED

Choice = dict[str, Any]

COPIED = (
    "top_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
)
"""Options with the same meaning in a body and in Python."""


class Format(Protocol):
    """The format in which an endpoint writes choices; `index` is that of a choice.

    Attributes
    ----------
    warnings : list of str
        Warnings for the client about the answers so far.
    """

    id: str
    whole: str
    chunk: str
    warnings: list[str]

    def choice(self, index: int, answer: Answer) -> Choice:
        """A complete choice."""
        ...

    def opening(self, index: int) -> Choice | None:
        """The chunk of a stream before a choice's first token."""
        ...

    def waiting(self, index: int) -> Choice:
        """The chunk of a stream for a choice without a new token."""
        ...

    def piece(self, index: int, token: TokenEvent) -> Choice | None:
        """The chunk of a stream for a token; None: nothing yet."""
        ...

    def closing(self, index: int, answer: Answer) -> Choice:
        """The chunk of a stream at the end of a choice."""
        ...


@dataclass(frozen=True)
class Texts:
    """The texts that a request wants.

    Parameters
    ----------
    requests
        Prompt and options of each choice.
    count
        Number of choices of each prompt; they are adjacent in `requests`.
    written
        Whether any tokens are wanted; otherwise each answer is empty.
    """

    requests: Sequence[tuple[Sequence[int], GenerationOptions]]
    count: int
    written: bool = True

    @classmethod
    def of(cls, service: Service, prompts: Sequence[Sequence[int]], wanted: "Wanted") -> "Texts":
        """Make the texts for each prompt. A given seed is the first choice's; each next choice adds 1.

        The length of an answer is limited to the space that its prompt leaves.

        Raises
        ------
        ApiError
            A prompt leaves no space for an answer, or there are more texts than the queue holds.
        """
        if wanted.most != 0:
            service.check_count(len(prompts) * wanted.count)
        seed, count = wanted.options.seed, wanted.count
        seeds = [None if seed is None else (seed + i) % GREATEST_SEED for i in range(count)]
        requests = []
        for prompt in prompts:
            room = service.room(prompt, least=0 if wanted.most == 0 else 1)
            most = room if wanted.most is None else min(wanted.most, room)
            options = dataclasses.replace(wanted.options, max_tokens=max(most, 1))
            requests += [(prompt, dataclasses.replace(options, seed=each)) for each in seeds]
        return cls(requests, count, written=wanted.most != 0)

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of all prompts, each counted once."""
        return sum(len(prompt) for prompt, _ in self.requests[:: self.count])

    def cached_tokens(self, answers: Sequence[Answer]) -> int:
        """Number of prompt tokens that no choice had to compute."""
        reused = [answer.generation.stats.reused_tokens for answer in answers]
        return sum(min(reused[i : i + self.count]) for i in range(0, len(reused), self.count))


@dataclass(frozen=True)
class Wanted:
    """The options of a body that do not depend on its prompts.

    Parameters
    ----------
    options
        The options of each answer, except its length.
    most
        Largest number of tokens of an answer; None: as many as the context holds.
    count
        Number of choices of each prompt.
    """

    options: GenerationOptions
    most: int | None
    count: int


def wanted(
    body: GenerationBody,
    service: Service,
    *,
    default: int | None,
    logprobs: int | None,
    constraint: Constraint | None,
) -> Wanted:
    """Read the options of a body, with OpenAI's defaults.

    Parameters
    ----------
    default
        Largest number of tokens of an answer where the body gives none.
    logprobs
        The field of `GenerationOptions`.
    constraint
        The constraint that answers must match.

    Raises
    ------
    ApiError, UsageError
        A value cannot be used.
    """
    given = {name: value for name in COPIED if (value := getattr(body, name)) is not None}
    own, count = body.shortlist, body.n or 1
    if body.best_of not in (None, count):
        message = f"best_of other than n ({count}) is not supported: use n, and compare the logprobs"
        raise ApiError(400, message, param="best_of", code="unsupported_value")
    try:
        biases = {int(token): bias for token, bias in (body.logit_bias or {}).items()}
    except ValueError:
        message = 'logit_bias goes from the ids of tokens to numbers, such as {"50256": -100}'
        raise ApiError(400, message, param="logit_bias", code="invalid_value") from None
    options = GenerationOptions(
        **given,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_k=max(body.top_k or 0, 0),
        logit_bias=biases,
        constraint=constraint,
        logprobs=logprobs,
        dense_head=bool(own and own.head == "dense"),
        audit=(own and own.audit) or service.settings.audit,
        trace=bool(own and own.trace and body.stream),
    )
    return Wanted(options, body.most_tokens(default), count)


async def respond(
    service: Service, body: GenerationBody, texts: Texts, form: Format, clock: Clock
) -> Response:
    """Generate the texts and write the response. A stream is submitted here, and sent by the response."""
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
        answers = await work.enter_async_context(_answers(service, texts, progress=progress))
        chunks = _chunks(service, body, texts, form, clock, envelope, answers)
        return EventStream(chunks, work, service.settings.timeout, service.public)
    async with _answers(service, texts) as answers:
        for answer in answers:
            async for _ in answer:
                pass
    service.log_text("answers", [answer.generation.text for answer in answers])
    choices = [form.choice(index, answer) for index, answer in enumerate(answers)]
    content = {**envelope, "choices": choices, "usage": _usage(service, texts, answers, clock)}
    return json_response({**content, **_warned(form.warnings)})


def _answers(
    service: Service, texts: Texts, *, progress: bool = False
) -> contextlib.AbstractAsyncContextManager[list[Answer]]:
    if texts.written:
        return service.answers(texts.requests, progress=progress)
    return contextlib.nullcontext([service.empty_answer(prompt) for prompt, _ in texts.requests])


def _usage(service: Service, texts: Texts, answers: Sequence[Answer], clock: Clock) -> dict[str, Any]:
    return usage(texts.prompt_tokens, texts.cached_tokens(answers), answers, clock, service.metrics)


def _warned(warnings: Sequence[str]) -> dict[str, Any]:
    return {"warnings": list(warnings)} if warnings else {}


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
    # As in OpenAI's API: with `include_usage`, all other chunks have a usage of null.
    tail: dict[str, Any] = {"usage": None} if body.include_usage else {}
    told = 0

    def chunk(choice: Choice) -> bytes:
        nonlocal told
        news, told = form.warnings[told:], len(form.warnings)
        return event({**envelope, "choices": [choice], **tail, **_warned(news)})

    for index in range(len(answers)):
        if opening := form.opening(index):
            yield chunk(opening)
    async for index, token in merged(answers):
        if token is None:
            yield chunk(form.closing(index, answers[index]))
        elif isinstance(token, PromptEvent):
            read = {"prompt_read": token.read, "prompt_tokens": token.total}
            yield chunk({**form.waiting(index), "shortlist": read})
        elif choice := form.piece(index, token):
            yield chunk({**choice, "shortlist": what_was_read(token)} if trace else choice)
        elif trace:
            yield chunk({**form.waiting(index), "shortlist": what_was_read(token)})
    service.log_text("answers", [answer.generation.text for answer in answers])
    cost = _usage(service, texts, answers, clock)
    if body.include_usage:
        yield event({**envelope, "choices": [], "usage": cost})
    yield DONE


def what_was_read(token: TokenEvent) -> dict[str, Any]:
    """Figures of a token for the trace of a stream."""
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
    """A unique id."""
    return f"{prefix}-{secrets.token_hex(12)}"
