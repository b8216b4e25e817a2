"""`/v1/completions`: continue texts, and with `echo` say how likely they were."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from shortlist.engine.events import TokenEvent
from shortlist.engine.logprobs import TokenLogprobs
from shortlist.engine.scoring import score_pieces
from shortlist.models.streaming import StreamDecoder
from shortlist.models.tokenizer import Tokenizer
from shortlist.server.errors import ApiError, json_response
from shortlist.server.generate import Choice, Texts, generation_options, new_id, respond
from shortlist.server.schemas import CompletionBody, as_prompts
from shortlist.server.service import Answer, Service
from shortlist.server.streaming import STREAMED, while_connected
from shortlist.server.usage import Clock, usage

DEFAULT_TOKENS = 16  # OpenAI's

router = APIRouter()


@router.post("/v1/completions", summary="Continue texts", responses=STREAMED)
async def completions(body: CompletionBody, request: Request) -> Response:
    """As OpenAI's, with prompt log-probabilities where `echo` and `logprobs` are asked for."""
    service: Service = request.app.state.service
    clock = Clock(request.state.arrived)
    service.check_body(body)
    return await while_connected(request, _complete(service, body, clock), service.settings.timeout)


async def _complete(service: Service, body: CompletionBody, clock: Clock) -> Response:
    max_tokens = DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
    if not max_tokens and not body.echo:
        raise ApiError(400, "max_tokens is 0: ask for 1 at least, or for echo", param="max_tokens")
    options = generation_options(body, service, max_tokens=max_tokens or 1, logprobs=body.logprobs)
    given = as_prompts(body.prompt)
    service.log_text("prompts", given)
    prompts = await service.on_tokenizer(lambda: [service.encode(prompt) for prompt in given])
    texts = Texts.of(prompts, options, body.n or 1)
    form = CompletionFormat(service.model.tokenizer, body.n or 1)
    if body.echo:
        for prompt, tokens in zip(given, prompts, strict=True):
            text = prompt if isinstance(prompt, str) else service.model.tokenizer.decode(tokens)
            entries = None
            if body.logprobs is not None:
                entries = await _scores(service, tokens, body.logprobs, clock)
            form.echo(text, tokens, entries)
    if max_tokens:
        return await respond(service, body, texts, form, clock)
    if body.stream:
        raise ApiError(400, "max_tokens is 0: there is nothing to stream", param="stream")
    choices = [form.echoed(place) for place in range(len(texts.requests))]
    return json_response(
        {
            "id": form.id,
            "object": form.whole,
            "created": service.created,
            "model": service.settings.name,
            "choices": choices,
            "usage": usage(texts.prompt_tokens, [], clock, service.metrics),
        }
    )


async def _scores(
    service: Service, tokens: Sequence[int], count: int, clock: Clock
) -> list[TokenLogprobs | None]:
    with clock.scoring():
        walk = service.walk(score_pieces(service.model, tokens, count))
        return [entry async for piece in walk for entry in piece]


class CompletionFormat:
    """How completions are written.

    Parameters
    ----------
    tokenizer
    count
        Choices for each prompt.
    """

    whole = chunk = "text_completion"

    def __init__(self, tokenizer: Tokenizer, count: int):
        self.id = new_id("cmpl")
        self._tokenizer, self._count = tokenizer, count
        self._echoes: list[tuple[str, Sequence[int], Sequence[TokenLogprobs | None] | None]] = []
        self._writers: dict[int, LogprobWriter] = {}

    def echo(self, text: str, tokens: Sequence[int], entries: Sequence[TokenLogprobs | None] | None) -> None:
        """Put the next prompt in front of its choices."""
        self._echoes.append((text, tokens, entries))

    def choice(self, place: int, answer: Answer) -> Choice:
        """See `Format`."""
        choice = self.echoed(place)
        generation = answer.generation
        choice["text"] += generation.text
        choice["finish_reason"] = generation.finish_reason
        if generation.logprobs is not None:
            added = self._writer(place).write(generation.tokens, generation.logprobs)
            before = choice["logprobs"] or {name: [] for name in added}
            choice["logprobs"] = {name: before[name] + added[name] for name in added}
        return choice

    def echoed(self, place: int) -> Choice:
        """A choice with nothing but its prompt, where that is to be echoed."""
        text, logprobs = "", None
        if self._echoes:
            text, tokens, entries = self._echoes[place // self._count]
            if entries is not None:
                logprobs = self._writer(place).write(tokens, entries)
            else:
                self._writer(place).offset = len(text)
        return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": "length"}

    def opening(self, place: int) -> Choice | None:
        """See `Format`."""
        return {**self.echoed(place), "finish_reason": None} if self._echoes else None

    def waiting(self, place: int) -> Choice:
        """See `Format`."""
        return {"index": place, "text": "", "logprobs": None, "finish_reason": None}

    def piece(self, place: int, token: TokenEvent) -> Choice:
        """See `Format`."""
        logprobs = None
        if token.chosen.logprobs is not None and token.token not in self._tokenizer.eos_ids:
            logprobs = self._writer(place).write([token.token], [token.chosen.logprobs])
        return {"index": place, "text": token.text, "logprobs": logprobs, "finish_reason": None}

    def closing(self, place: int, answer: Answer) -> Choice:
        """See `Format`."""
        return {
            "index": place,
            "text": "",
            "logprobs": None,
            "finish_reason": answer.generation.finish_reason,
        }

    def _writer(self, place: int) -> "LogprobWriter":
        return self._writers.setdefault(place, LogprobWriter(self._tokenizer))


class LogprobWriter:
    """Log-probabilities as completions have them: lists side by side, which grow with the text.

    Attributes
    ----------
    offset : int
        Characters of the text so far.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.offset = 0
        self._tokenizer = tokenizer
        self._characters = StreamDecoder(tokenizer, continues=True)

    def write(self, tokens: Sequence[int], entries: Sequence[TokenLogprobs | None]) -> dict[str, list[Any]]:
        """What the next tokens add to each list; one without an entry, the first of a text, has nulls."""
        written: dict[str, list[Any]] = {
            "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []
        }  # fmt: skip
        for token, entry in zip(tokens, entries, strict=True):
            written["tokens"].append(spelled(self._tokenizer.token_bytes(token)))
            written["token_logprobs"].append(entry and entry.chosen.logprob)
            # The chosen token is always among them, also where it is not likely.
            top = entry and {spelled(each.text): each.logprob for each in (*entry.top, entry.chosen)}
            written["top_logprobs"].append(top)
            written["text_offset"].append(self.offset)
            self.offset += len(self._characters.push(token))
        return written


def spelled(piece: bytes) -> str:
    """A token for reading; one that is part of a character as its bytes, which keeps it apart from others."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
