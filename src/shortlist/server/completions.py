"""`/v1/completions`: continue texts, and with `echo` say how likely they were."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from shortlist.engine.events import TokenEvent
from shortlist.engine.logprobs import TokenLogprobs
from shortlist.engine.scoring import score_pieces
from shortlist.model.tokenizer.streaming import StreamDecoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.server.generate import Choice, Texts, new_id, respond, wanted
from shortlist.server.schemas import CompletionBody
from shortlist.server.service import Answer, Service
from shortlist.server.streaming import STREAMED, while_connected
from shortlist.server.usage import Clock

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
    asked = wanted(
        body, service, default=DEFAULT_TOKENS, logprobs=body.logprobs, constraint=body.constraint()
    )
    service.log_text("prompts", body.prompt)
    encode = partial(
        service.encode,
        add_special=body.add_special_tokens is not False,
        parse_special=body.parse_special is not False,
    )
    prompts = await service.on_tokenizer(lambda: [encode(prompt) for prompt in body.prompt])
    texts = Texts.of(service, prompts, asked)
    form = CompletionFormat(service.model.tokenizer, asked.count)
    if body.echo:
        for prompt, tokens in zip(body.prompt, prompts, strict=True):
            text = prompt if isinstance(prompt, str) else form.spell(tokens)
            entries = None
            if body.logprobs is not None:
                entries = await _scores(service, tokens, body.logprobs, clock)
            form.echo(text, tokens, entries)
    return await respond(service, body, texts, form, clock)


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
        self.warnings: list[str] = []
        self._tokenizer, self._count = tokenizer, count
        self._echoes: list[tuple[str, Sequence[int], Sequence[TokenLogprobs | None] | None]] = []
        self._writers: dict[int, LogprobWriter] = {}

    def echo(self, text: str, tokens: Sequence[int], entries: Sequence[TokenLogprobs | None] | None) -> None:
        """Put the next prompt in front of its choices."""
        self._echoes.append((text, tokens, entries))

    def spell(self, tokens: Sequence[int]) -> str:
        """The text of a prompt that came as tokens, special ones included."""
        return self._tokenizer.decode(tokens, skip_special=False)

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
                logprobs = self._writer(place).write_prompt(text, tokens, entries)
            self._writer(place).offset = len(text)
        return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": "length"}

    def opening(self, place: int) -> Choice | None:
        """See `Format`."""
        return {**self.echoed(place), "finish_reason": None} if self._echoes else None

    def waiting(self, place: int) -> Choice:
        """See `Format`."""
        return {"index": place, "text": "", "logprobs": None, "finish_reason": None}

    def piece(self, place: int, token: TokenEvent) -> Choice | None:
        """See `Format`."""
        logprobs = None
        if token.chosen.logprobs is not None and token.token not in self._tokenizer.eos_ids:
            logprobs = self._writer(place).write([token.token], [token.chosen.logprobs])
        if not token.text and logprobs is None:
            return None
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

    def write_prompt(
        self, text: str, tokens: Sequence[int], entries: Sequence[TokenLogprobs | None]
    ) -> dict[str, list[Any]]:
        """As `write`, for a prompt, in which special tokens are spelled, but for those put around it."""
        characters = StreamDecoder(self._tokenizer, skip_special=False, continues=True)
        pieces = [characters.push(token) for token in tokens]
        around = max("".join(pieces).find(text), 0)
        offsets, end = [], -around
        for piece in pieces:
            offsets.append(max(end, 0))
            end += len(piece)
        return self._written(tokens, entries, offsets)

    def write(self, tokens: Sequence[int], entries: Sequence[TokenLogprobs | None]) -> dict[str, list[Any]]:
        """What the next tokens add to each list; one without an entry, the first of a text, has nulls."""
        offsets = []
        for token in tokens:
            offsets.append(self.offset)
            self.offset += len(self._characters.push(token))
        return self._written(tokens, entries, offsets)

    def _written(
        self, tokens: Sequence[int], entries: Sequence[TokenLogprobs | None], offsets: Sequence[int]
    ) -> dict[str, list[Any]]:
        return {
            "tokens": [spelled(self._tokenizer.token_bytes(token)) for token in tokens],
            "token_logprobs": [entry and entry.chosen.logprob for entry in entries],
            # The chosen token is always among them, also where it is not likely.
            "top_logprobs": [
                entry and {spelled(each.text): each.logprob for each in (*entry.top, entry.chosen)}
                for entry in entries
            ],
            "text_offset": list(offsets),
        }


def spelled(piece: bytes) -> str:
    """A token for reading; one that is part of a character as its bytes, which keeps it apart from others."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
