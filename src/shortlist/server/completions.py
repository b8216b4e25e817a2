"""The endpoint `/v1/completions`: continues texts, and with `echo` scores prompts."""

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
    """OpenAI's completions; with `echo` and `logprobs` also log-probabilities of prompts."""
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
    """The format of completions.

    Parameters
    ----------
    tokenizer
    count
        Number of choices for each prompt.
    """

    whole = chunk = "text_completion"

    def __init__(self, tokenizer: Tokenizer, count: int):
        self.id = new_id("cmpl")
        self.warnings: list[str] = []
        self._tokenizer, self._count = tokenizer, count
        self._echoes: list[tuple[str, Sequence[int], Sequence[TokenLogprobs | None] | None]] = []
        self._writers: dict[int, LogprobWriter] = {}

    def echo(self, text: str, tokens: Sequence[int], entries: Sequence[TokenLogprobs | None] | None) -> None:
        """Write the next prompt in front of its choices."""
        self._echoes.append((text, tokens, entries))

    def spell(self, tokens: Sequence[int]) -> str:
        """The text of a prompt that was sent as tokens, with special tokens spelled out."""
        return self._tokenizer.decode(tokens, skip_special=False)

    def choice(self, index: int, answer: Answer) -> Choice:
        """See `Format`."""
        choice = self.echoed(index)
        generation = answer.generation
        choice["text"] += generation.text
        choice["finish_reason"] = generation.finish_reason
        if generation.logprobs is not None:
            added = self._writer(index).write(generation.tokens, generation.logprobs)
            before = choice["logprobs"] or {name: [] for name in added}
            choice["logprobs"] = {name: before[name] + added[name] for name in added}
        return choice

    def echoed(self, index: int) -> Choice:
        """A choice that holds only its prompt, where `echo` is set."""
        text, logprobs = "", None
        if self._echoes:
            text, tokens, entries = self._echoes[index // self._count]
            if entries is not None:
                logprobs = self._writer(index).write_prompt(text, tokens, entries)
            self._writer(index).offset = len(text)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": "length"}

    def opening(self, index: int) -> Choice | None:
        """See `Format`."""
        return {**self.echoed(index), "finish_reason": None} if self._echoes else None

    def waiting(self, index: int) -> Choice:
        """See `Format`."""
        return {"index": index, "text": "", "logprobs": None, "finish_reason": None}

    def piece(self, index: int, token: TokenEvent) -> Choice | None:
        """See `Format`."""
        logprobs = None
        if token.chosen.logprobs is not None and token.token not in self._tokenizer.eos_ids:
            logprobs = self._writer(index).write([token.token], [token.chosen.logprobs])
        if not token.text and logprobs is None:
            return None
        return {"index": index, "text": token.text, "logprobs": logprobs, "finish_reason": None}

    def closing(self, index: int, answer: Answer) -> Choice:
        """See `Format`."""
        return {
            "index": index,
            "text": "",
            "logprobs": None,
            "finish_reason": answer.generation.finish_reason,
        }

    def _writer(self, index: int) -> "LogprobWriter":
        return self._writers.setdefault(index, LogprobWriter(self._tokenizer))


class LogprobWriter:
    """Writes log-probabilities in the format of completions: parallel lists that grow with the text.

    Attributes
    ----------
    offset : int
        Number of characters of the text so far.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.offset = 0
        self._tokenizer = tokenizer
        self._characters = StreamDecoder(tokenizer, continues=True)

    def write_prompt(
        self, text: str, tokens: Sequence[int], entries: Sequence[TokenLogprobs | None]
    ) -> dict[str, list[Any]]:
        """Write a prompt's tokens; special tokens are spelled out, except those that encoding added."""
        characters = StreamDecoder(self._tokenizer, skip_special=False, continues=True)
        pieces = [characters.push(token) for token in tokens]
        around = max("".join(pieces).find(text), 0)
        offsets, end = [], -around
        for piece in pieces:
            offsets.append(max(end, 0))
            end += len(piece)
        return self._written(tokens, entries, offsets)

    def write(self, tokens: Sequence[int], entries: Sequence[TokenLogprobs | None]) -> dict[str, list[Any]]:
        """The additions of the next tokens to each list; a token without an entry (the first) gets nulls."""
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
            # The chosen token is always included, even where it is unlikely.
            "top_logprobs": [
                entry and {spelled(each.text): each.logprob for each in (*entry.top, entry.chosen)}
                for entry in entries
            ],
            "text_offset": list(offsets),
        }


def spelled(piece: bytes) -> str:
    """A readable form of a token; an incomplete character is shown by its bytes, so tokens stay distinct."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
