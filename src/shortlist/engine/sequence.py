"""A sequence: prompt and answer of one request, from its submission to its last token."""

from __future__ import annotations

import time
from collections import abc
from typing import Literal

import numpy as np

from shortlist.engine.choose import Chooser, Chosen
from shortlist.engine.events import Event, Timings
from shortlist.engine.exact_sampling import Draw
from shortlist.engine.generation import Generation
from shortlist.engine.options import GenerationOptions
from shortlist.engine.slots import Lease, Slot, common_start
from shortlist.engine.stop import StopMatcher
from shortlist.model.tokenizer.streaming import StreamDecoder
from shortlist.model.tokenizer.tokenizer import Tokenizer


class Sequence:
    """Prompt and answer so far; what `generation` says of the answer is kept up to date.

    Parameters
    ----------
    prompt
        Tokens, one at least.
    options
        With `max_tokens`.
    tokenizer
    generation
        Unfinished, without text.
    chooser
        Chooses the tokens of this sequence.

    Attributes
    ----------
    tokens : list of int
        Prompt and answer.
    length : int
        Positions that it may grow to.
    on_event : callable
        Called with every event.
    progress : bool
        Whether a `PromptEvent` is sent after each part of the prompt but the last.
    cancelled : bool
        Whether it ends before the next step.
    lease : Lease or None
        Its KV memory, while it has some.
    loads : int64 [mixtures, experts]
        How often each expert was chosen before it was worked on.
    timings : Timings
    """

    def __init__(
        self,
        prompt: abc.Sequence[int],
        options: GenerationOptions,
        tokenizer: Tokenizer,
        generation: Generation,
        chooser: Chooser,
    ):
        assert options.max_tokens is not None
        self.options = options
        self.generation = generation
        self.tokens = list(prompt)
        self.length = len(prompt) + options.max_tokens
        self.chooser = chooser
        self.on_event: abc.Callable[[Event], object] = lambda event: None
        self.progress = self.cancelled = False
        self.lease: Lease | None = None
        self.loads = np.zeros((0, 0), np.int64)
        self.timings = Timings()
        self._mark = time.perf_counter()
        self._tokenizer = tokenizer
        self._characters = StreamDecoder(tokenizer, continues=True)
        self._stop = StopMatcher(options.stops)

    # ---- KV memory -----------------------------------------------------------------------------------------

    @property
    def slot(self) -> Slot:
        """Where its keys and values are."""
        assert self.lease is not None
        return self.lease.slot

    @property
    def computed(self) -> int:
        """Leading tokens whose keys and values are in the cache."""
        return self.slot.cache.length

    @property
    def remaining(self) -> int:
        """Tokens that are not in the cache: one in decode, mostly more in prefill."""
        return len(self.tokens) - self.computed

    @property
    def decodes(self) -> bool:
        """Whether it has a token already, and needs one more position for the next."""
        return bool(self.generation.tokens) and self.remaining == 1

    def next_tokens(self, count: int) -> np.ndarray:
        """The next tokens to compute; int32 [count]."""
        return np.array(self.tokens[self.computed : self.computed + count], np.int32)

    def take_shared(self) -> bool:
        """Copy what a donor has of the start of this text; False while the donor is still computing it."""
        assert self.lease is not None
        slot, donor, shared = self.lease.slot, self.lease.donor, self.lease.shared
        if donor is None:
            return True
        still = min(common_start(donor.tokens, self.tokens), shared)  # less where the slot was lent anew
        ready = min(donor.cache.length, still)
        if ready < still and donor.lent:
            return False
        slot.cache.take_over(donor.cache, ready)
        self.generation.stats.reused_tokens = ready
        self.lease = Lease(slot, None, ready)
        return True

    # ---- the next token ------------------------------------------------------------------------------------

    def choose(self, hidden: np.ndarray) -> Chosen:
        """The next token, from the hidden state float32 [width] after all there are."""
        return self.chooser.choose(hidden, position=len(self.tokens))

    def examine(self, draw: Draw, hidden: np.ndarray) -> Chosen:
        """The next token, where it is known already, with what else was asked to be known of it."""
        return self.chooser.examine(draw, hidden, position=len(self.tokens))

    @property
    def finished(self) -> bool:
        """Whether no more tokens are wanted."""
        return self.generation.finish_reason is not None

    def add(self, chosen: Chosen) -> str:
        """Take a token up; returns the text that is certain now, maybe none."""
        generation, token = self.generation, chosen.token
        if token in self._tokenizer.eos_ids:
            return self._end("stop", self._hidden(token))
        self.tokens.append(token)
        self.chooser.push(token)
        generation.tokens.append(token)
        if generation.logprobs is not None and chosen.logprobs is not None:
            generation.logprobs.append(chosen.logprobs)
        piece = self._stop.push(self._characters.push(token)) + self._stop.push(
            self._hidden(token), shown=False
        )
        generation.text += piece
        if self._stop.stopped:
            generation.finish_reason = "stop"
        elif len(generation.tokens) == self.options.max_tokens:
            piece += self._end("length")
        return piece

    def _hidden(self, token: int) -> str:
        """The text of a special token, which is not shown but may be a stop string or a part of one."""
        if token not in self._tokenizer.special_ids:
            return ""
        return self._tokenizer.token_bytes(token).decode("utf-8", "replace")

    def _end(self, reason: Literal["stop", "length"], hidden: str = "") -> str:
        """Let go of what was held back: a character that was cut off, the start of a stop string."""
        piece = self._stop.push(self._characters.flush()) + self._stop.push(hidden, shown=False)
        if self._stop.stopped:
            reason = "stop"
        else:
            piece += self._stop.flush()
        self.generation.text += piece
        self.generation.finish_reason = reason
        return piece

    # ---- whoever waits for it ------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop after the token that is being computed; a `DoneEvent` follows, if none was sent yet."""
        self.cancelled = True

    def emit(self, event: Event) -> None:
        """Send an event; a listener that fails is treated as one that left."""
        try:
            self.on_event(event)
        except Exception:
            self.cancelled = True

    @property
    def seconds(self) -> float:
        """What was spent on it so far, without what it waited for memory, until a moment before."""
        times = self.timings
        return times.prefill + times.decode + times.sampling + time.perf_counter() - self._mark

    def lap(self) -> float:
        """Seconds since the last lap, or since it was made."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        return seconds
