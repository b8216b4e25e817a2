"""The decode loop: schedule, forward, choose, emit.

A step of the decoder takes one token of every sequence in decode and some tokens of those in prefill, as
many as the others can wait for (`schedule`). Sequences join and leave between steps. What a sequence
gets does not depend on the others: the decoder computes a token of many as it does one alone.
"""

import math
import threading
import time
from collections import abc, deque

import numpy as np

from shortlist.engine.choose import Chosen
from shortlist.engine.events import DoneEvent, Event, FailedEvent, PromptEvent, TokenEvent
from shortlist.engine.exact_sampling import Asked
from shortlist.engine.greatest import Greatest
from shortlist.engine.schedule import StepCost, read_budget, share_out
from shortlist.engine.sequence import Sequence
from shortlist.engine.slots import Slots
from shortlist.engine.stats import EngineStats
from shortlist.model.decoder import Decoder
from shortlist.sites.head import Head

MOST = 256
"""Prompt tokens in a step while no sequence is in decode: enough to use the kernels well, few enough that a
request that joins waits for little and that Ctrl-C is heard soon."""


class Engine:
    """Sequences of one model, and the loop that brings them to their ends.

    Whoever steps it holds `lock`: a step uses the decoder and the heads, which take one call at a time.

    Parameters
    ----------
    decoder
    dense_head
        All rows of the head.
    context
        Most positions of a sequence.
    slots
        Sequences that are worked on at once.
    kv_tokens
        Positions of KV memory for all of them together; see `Slots`.
    token_seconds
        How long a sequence in decode may wait for a token because of prefills; infinite: prompts are read
        whole, first come, first served.

    Attributes
    ----------
    stats : EngineStats
    waiting : deque of Sequence
        Those without memory, oldest first. Others may append to it at any time.
    running : list of Sequence
        Those with memory.
    """

    def __init__(
        self,
        decoder: Decoder,
        dense_head: Head,
        context: int,
        *,
        slots: int = 1,
        kv_tokens: int | None = None,
        token_seconds: float = math.inf,
    ):
        self.lock = threading.RLock()
        self.decoder = decoder
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.token_seconds = token_seconds
        self.memory = Slots(decoder, slots, context, kv_tokens)
        self.stats = EngineStats(slots, self.memory.limit)
        self._cost = StepCost()
        self._greatest = Greatest(dense_head)
        self._mixtures = decoder.expert_loads.size > 0

    def pieces(
        self, sequence: Sequence, on_prompt: abc.Callable[[int, int], None] | None = None
    ) -> abc.Iterator[str]:
        """Generate one sequence in the caller's thread, yielding the text that is certain.

        Sequences of several such iterators may be interleaved: the others pause. `on_prompt` hears how much
        of the prompt was read, and of how many tokens.
        """
        events: deque[Event] = deque()
        sequence.on_event = events.append
        sequence.progress = on_prompt is not None
        total = len(sequence.tokens)
        try:
            while not sequence.finished:
                with self.lock:
                    sequence.lap()  # what the caller did between two tokens is not the sequence's time
                    self._step_alone(sequence)
                while events:
                    match events.popleft():
                        case PromptEvent(read) if on_prompt is not None:
                            on_prompt(read, total)
                        case TokenEvent(text=text):
                            if on_prompt is not None and sequence.generation.stats.draws == 1:
                                on_prompt(total, total)
                            if text:
                                yield text
                        case FailedEvent(error):
                            raise error
        finally:
            # An abandoned iterator ends in whatever thread collects it, maybe within a step: so the next step
            # sees to it.
            sequence.cancel()

    def step(self) -> None:
        """Let sequences leave and join, and compute what is due for those that are there."""
        self._leave()
        self._join()
        if self.running:
            self._step(self._schedule(), self.running)

    def _step_alone(self, sequence: Sequence) -> None:
        """One step of a sequence; for its memory another one may have to compute anew what it had."""
        self._leave()
        if sequence.lease is None:
            while not self._allocate(sequence):
                self._free(self.running.pop(0))
        if self.running[-1] is not sequence:  # the one that was stepped longest ago comes first
            self.running.remove(sequence)
            self.running.append(sequence)
        self._step([(sequence, min(sequence.remaining, MOST))], [sequence])

    # ---- schedule ------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """End what was cancelled."""
        for sequence in [sequence for sequence in self.running if sequence.cancelled]:
            self._end(sequence)
        for sequence in [sequence for sequence in tuple(self.waiting) if sequence.cancelled]:
            self.waiting.remove(sequence)
            sequence.timings.queue += sequence.lap()
            self._end(sequence)

    def _join(self) -> None:
        """Give memory to those that wait, in their order."""
        while self.waiting and self._allocate(self.waiting[0]):
            self.waiting.popleft()

    def _allocate(self, sequence: Sequence) -> bool:
        """Give a sequence its memory; False where there is too little."""
        sequence.lease = self.memory.lend(sequence.tokens, sequence.length)
        if sequence.lease is None:
            return False
        self.running.append(sequence)
        if not sequence.generation.stats.draws:  # else it had memory before
            if self._mixtures:
                sequence.loads = self.decoder.expert_loads
            sequence.generation.stats.reused_tokens = sequence.computed
            self.stats.prompt_tokens += len(sequence.tokens)
        sequence.take_shared()
        sequence.timings.queue += sequence.lap()
        return True

    def _free(self, sequence: Sequence) -> None:
        """Take the memory of a sequence that has left `running`."""
        self.memory.give_back(sequence.slot)
        sequence.lease = None

    def _schedule(self) -> list[tuple[Sequence, int]]:
        """Sequences that take part in the next step, and how many tokens of each it computes."""
        decode = [sequence for sequence in self.running if sequence.decodes]
        prefill = [each for each in self.running if not each.decodes and each.take_shared()]
        if not prefill:
            return [(sequence, 1) for sequence in decode]
        remaining = [sequence.remaining for sequence in prefill]
        budget = read_budget(
            self._cost,
            remaining,
            [sequence.computed for sequence in prefill],
            [sequence.computed for sequence in decode],
            self.token_seconds,
            MOST if math.isfinite(self.token_seconds) else sum(remaining),
        )
        counts = zip(prefill, share_out(remaining, budget), strict=True)
        return [(each, 1) for each in decode] + [(each, count) for each, count in counts if count]

    # ---- forward, choose, emit -----------------------------------------------------------------------------

    def _step(self, scheduled: abc.Sequence[tuple[Sequence, int]], timed: abc.Sequence[Sequence]) -> None:
        """One pass of the decoder, and the next token of every sequence that it brings to its end.

        `timed` are the sequences whose time it is, whether they take part or wait.
        """
        decoded = {each for each, _ in scheduled if each.decodes}
        attended = sum(count * (each.computed + count // 2) for each, count in scheduled)
        prefilled = sum(count for _, count in scheduled) - len(decoded)
        started = time.perf_counter()
        try:
            hidden = self.decoder.forward_together(
                [(each.next_tokens(count), each.slot.cache) for each, count in scheduled]
            )
        except Exception as error:
            for each, _ in scheduled:
                self._end(each, error)
            return
        for each in timed:
            if each in decoded:
                each.timings.decode += each.lap()
            else:
                each.timings.prefill += each.lap()
        ends = np.cumsum([count for _, count in scheduled]) - 1
        ready = [
            (each, hidden[end]) for (each, _), end in zip(scheduled, ends, strict=True) if not each.remaining
        ]
        for each, _ in scheduled:
            if each.progress and each.remaining and not each.generation.tokens:
                each.emit(PromptEvent(each.computed, len(each.tokens)))
        stepped = time.perf_counter()
        self._choose(ready)
        for each in timed:
            each.timings.sampling += each.lap()
        ended = time.perf_counter()
        self.stats.steps += 1
        self.stats.step_seconds += stepped - started
        self.stats.head_seconds += ended - stepped
        self.stats.dense_steps = self._greatest.dense_steps
        if math.isfinite(self.token_seconds):
            self._cost.observe(len(decoded), prefilled, attended, ended - started)

    def _choose(self, states: abc.Sequence[tuple[Sequence, np.ndarray]]) -> None:
        """The next token of each sequence; those that ask one head alike share what it reads."""
        together: dict[tuple[int, bool], list[tuple[Sequence, np.ndarray, Asked | None]]] = {}
        for sequence, hidden in states:
            chooser = sequence.chooser
            asked = chooser.asked(len(sequence.tokens))
            if chooser.takes_greatest or asked:
                key = id(chooser.head), chooser.takes_greatest
                together.setdefault(key, []).append((sequence, hidden, asked))
            else:
                self._take(sequence, lambda each=sequence, hidden=hidden: each.choose(hidden))
        for (_, greatest), group in together.items():
            head = group[0][0].chooser.head
            hiddens = np.stack([hidden for _, hidden, _ in group])
            try:
                if greatest:
                    draws = self._greatest(head, hiddens)
                else:
                    draws = self._greatest.draw(head, hiddens, [asked for *_, asked in group if asked])
            except Exception as error:
                for sequence, *_ in group:
                    self._end(sequence, error)
                continue
            for (sequence, hidden, _), draw in zip(group, draws, strict=True):
                self._take(
                    sequence, lambda each=sequence, draw=draw, hidden=hidden: each.examine(draw, hidden)
                )

    def _take(self, sequence: Sequence, choose: abc.Callable[[], Chosen]) -> None:
        """Take up the token that `choose` returns, and send the events."""
        counts, total = sequence.generation.stats, self.stats
        try:
            chosen = choose()
            piece = sequence.add(chosen)
        except Exception as error:
            self._end(sequence, error)
            return
        counts.layer_bytes = self.decoder.layer_bytes
        if self._mixtures:
            counts.expert_loads = self.decoder.expert_loads - sequence.loads
        counts.add(sequence.seconds - counts.seconds, chosen.read, full=chosen.full, agrees=chosen.agrees)
        total.add(counts, chosen.read)
        share = chosen.read.rows / counts.vocab_size
        sequence.emit(TokenEvent(chosen, piece, share, counts.layer_bytes + chosen.read.bytes))
        if sequence.finished:
            self._end(sequence)

    def _end(self, sequence: Sequence, error: Exception | None = None) -> None:
        """Free the memory of a sequence and send its last event."""
        if sequence in self.running:
            sequence.timings.sampling += sequence.lap()
            self.running.remove(sequence)
            self._free(sequence)
        if error is not None:
            self.stats.failed += 1
            sequence.emit(FailedEvent(error))
        else:
            self.stats.finished += sequence.finished
            self.stats.cancelled += not sequence.finished
            sequence.emit(DoneEvent(sequence.generation, sequence.timings))
