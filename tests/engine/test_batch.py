import threading
import time

import numpy as np
import pytest
from engine.fakes import fake_model

from shortlist.engine.batch import BatchEngine, QueueFull
from shortlist.engine.events import DoneEvent, FailedEvent, PromptEvent, TokenEvent
from shortlist.engine.options import GenerationOptions
from shortlist.errors import UsageError


class Listener:
    """Collects the events of one request."""

    def __init__(self):
        self.events = []
        self.ended = threading.Event()

    def __call__(self, event):
        self.events.append(event)
        if not isinstance(event, TokenEvent | PromptEvent):
            self.ended.set()

    @property
    def last(self):
        assert self.ended.wait(20), "the request did not end"
        return self.events[-1]


@pytest.fixture
def engine():
    engine = BatchEngine(fake_model())
    yield engine
    engine.close()


def run(engine, prompt, **options):
    listener = Listener()
    engine.submit(engine.model.encode(prompt), GenerationOptions(**options), listener)
    return listener


def test_a_request_gives_the_text_that_the_model_gives_alone(engine):
    listeners = {prompt: run(engine, prompt, max_tokens=12) for prompt in ("one", "two", "three")}
    for prompt, listener in listeners.items():
        alone = fake_model().generate(prompt, max_tokens=12)
        assert isinstance(listener.last, DoneEvent)
        assert listener.last.generation.tokens == alone.tokens
        assert "".join(event.text for event in listener.events[:-1]) == alone.text


def test_timings_add_up_to_the_time_of_the_request(engine):
    timings = run(engine, "one", max_tokens=5).last.timings
    parts = timings.queue + timings.prefill + timings.decode + timings.sampling
    assert timings.total == pytest.approx(parts)
    assert min(timings.queue, timings.prefill, timings.decode, timings.sampling) > 0


def test_a_full_queue_refuses():
    engine = BatchEngine(fake_model(seconds=0.05), slots=1, queue=1)
    first = run(engine, "x", max_tokens=50)
    while engine.stats().running == 0:
        time.sleep(0.001)
    second = run(engine, "x", max_tokens=50)
    with pytest.raises(QueueFull, match="1 requests are waiting"):
        run(engine, "x", max_tokens=50)
    engine.close()
    assert isinstance(first.last, DoneEvent)
    assert isinstance(second.last, DoneEvent)
    assert engine.stats().refused == 1


def test_a_cancelled_request_ends_without_a_reason():
    engine = BatchEngine(fake_model(seconds=0.01))
    listener = Listener()
    job = engine.submit(engine.model.encode("x"), GenerationOptions(max_tokens=500), listener)
    job.cancel()
    assert listener.last.generation.finish_reason is None
    assert engine.stats().cancelled == 1
    engine.close()


def test_calls_run_between_steps(engine):
    listener = run(engine, "x", max_tokens=50)
    assert engine.call(lambda model: model.context).result(5) == engine.model.context
    assert isinstance(listener.last, DoneEvent)


def test_a_closed_engine_takes_nothing(engine):
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        run(engine, "x")


def test_texts_share_steps():
    engine = BatchEngine(fake_model(seconds=0.005))
    listeners = [run(engine, prompt, max_tokens=20) for prompt in ("first", "second", "third", "fourth")]
    assert all(isinstance(each.last, DoneEvent) for each in listeners)
    stats = engine.stats()
    assert stats.generated_tokens == 80
    assert stats.steps < 40
    engine.close()


def test_each_token_is_computed_once():
    engine = BatchEngine(fake_model(seconds=0.001), slots=3)
    prompts = ["a" * 50, "b" * 300, "c", "d" * 20]
    listeners = [run(engine, prompt, max_tokens=6) for prompt in prompts]
    assert all(isinstance(each.last, DoneEvent) for each in listeners)
    prompt_tokens = sum(len(engine.model.encode(prompt)) for prompt in prompts)
    # The last token of an answer needs no pass of its own; the begin token may be shared.
    shared = engine.stats().reused_tokens
    assert len(engine.model.decoder.forwarded) == prompt_tokens + 4 * 5 - shared
    engine.close()


def test_a_shared_start_is_computed_once():
    engine = BatchEngine(fake_model(seconds=0.002))
    start = "You are a helpful assistant. " * 10
    listeners = [run(engine, start + end, max_tokens=4) for end in ("one", "two", "three")]
    for listener, end in zip(listeners, ("one", "two", "three"), strict=True):
        assert listener.last.generation.tokens == fake_model().generate(start + end, max_tokens=4).tokens
    assert engine.stats().reused_tokens >= 2 * len(start)
    engine.close()


def test_a_start_is_not_taken_from_a_slot_that_was_lent_anew():
    engine = BatchEngine(fake_model(seconds=0.005), slots=2)
    start = "word " * 150
    first = Listener()
    job = engine.submit(engine.model.encode(start + "a"), GenerationOptions(max_tokens=50), first)
    second = run(engine, start + "b", max_tokens=5)
    third = run(engine, "something else " * 20, max_tokens=5)
    job.cancel()
    assert second.last.generation.tokens == fake_model().generate(start + "b", max_tokens=5).tokens
    alone = fake_model().generate("something else " * 20, max_tokens=5)
    assert third.last.generation.tokens == alone.tokens
    engine.close()


def test_a_text_is_written_on_while_a_long_prompt_is_read():
    engine = BatchEngine(fake_model(seconds=0.002, context_length=4000), token_seconds=0.001)
    writer = run(engine, "x", max_tokens=400)
    while len(writer.events) < 5:
        time.sleep(0.001)
    engine.model.decoder.steps.clear()
    reader = run(engine, "y" * 1000, max_tokens=2)
    assert isinstance(reader.last, DoneEvent)
    chunks = [step for step in engine.model.decoder.steps if max(step) > 1]
    assert len(chunks) > 8
    assert all(step[0] == 1 for step in chunks)
    engine.close()


@pytest.mark.parametrize("progress", [True, False])
def test_how_far_a_prompt_is_read_is_told_to_who_asks(engine, progress):
    listener = Listener()
    tokens = engine.model.encode("y" * 700)
    engine.submit(tokens, GenerationOptions(max_tokens=3), listener, progress=progress)
    assert isinstance(listener.last, DoneEvent)
    told = [event for event in listener.events if isinstance(event, PromptEvent)]
    assert [(event.read, event.total) for event in told] == ([(256, 701), (512, 701)] if progress else [])
    assert listener.events[: len(told)] == told  # before the first token


def test_progress_counts_what_was_there_before(engine):
    run(engine, "y" * 300, max_tokens=1).last  # noqa: B018
    listener = Listener()
    engine.submit(engine.model.encode("y" * 700), GenerationOptions(max_tokens=1), listener, progress=True)
    assert isinstance(listener.last, DoneEvent)
    assert next(event.read for event in listener.events if isinstance(event, PromptEvent)) == 301 + 256


def test_a_prompt_that_can_never_fit_is_refused():
    engine = BatchEngine(fake_model(), kv_tokens=40)
    with pytest.raises(UsageError, match="the KV memory holds 40"):
        run(engine, "x" * 30, max_tokens=20)
    assert len(run(engine, "x" * 30, max_tokens=None).last.generation.tokens) == 9
    engine.close()


def test_texts_wait_for_memory_and_all_are_written():
    engine = BatchEngine(fake_model(), kv_tokens=60)
    listeners = [run(engine, f"prompt {i}", max_tokens=20) for i in range(12)]
    assert all(isinstance(each.last, DoneEvent) for each in listeners)
    assert engine.stats().kv_tokens_used <= 60
    engine.close()


def test_many_requests_with_random_cancels_do_not_mix():
    engine = BatchEngine(fake_model(), slots=5, queue=200)
    random = np.random.default_rng(0)
    prompts = [f"{'same start ' * int(random.integers(0, 4))}{i}" for i in range(60)]
    listeners, jobs = [], []
    for prompt in prompts:
        listeners.append(Listener())
        options = GenerationOptions(max_tokens=int(random.integers(1, 30)))
        jobs.append(engine.submit(engine.model.encode(prompt), options, listeners[-1]))
        if random.random() < 0.3:
            jobs[random.integers(len(jobs))].cancel()
    for prompt, listener, job in zip(prompts, listeners, jobs, strict=True):
        assert isinstance(listener.last, DoneEvent)
        tokens = listener.last.generation.tokens
        alone = fake_model().generate(prompt, max_tokens=job.options.max_tokens).tokens
        assert tokens == alone[: len(tokens)]
        assert job.cancelled or tokens == alone
    stats = engine.stats()
    assert stats.finished + stats.cancelled == stats.submitted == 60
    assert stats.running == stats.waiting == 0
    engine.close()


def test_a_listener_that_fails_loses_its_slot_and_nobody_else_does(engine):
    def broken(event):
        raise RuntimeError("gone")

    engine.submit(engine.model.encode("x"), GenerationOptions(max_tokens=200), broken)
    other = run(engine, "y", max_tokens=10)
    assert isinstance(other.last, DoneEvent)
    assert other.last.generation.tokens == fake_model().generate("y", max_tokens=10).tokens


def test_an_error_of_the_decoder_ends_those_that_it_met():
    engine = BatchEngine(fake_model())
    engine.model.decoder.forward_together = lambda segments: 1 / 0
    assert isinstance(run(engine, "x").last, FailedEvent)
    assert engine.stats().failed == 1
    engine.close()


def test_draining_finishes_what_there_is():
    engine = BatchEngine(fake_model(seconds=0.001))
    listeners = [run(engine, f"{i}", max_tokens=10) for i in range(10)]
    engine.close(drain_seconds=20)
    assert all(each.last.generation.finish_reason for each in listeners)


def test_an_idle_engine_uses_no_time(engine):
    assert run(engine, "x", max_tokens=2).last
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1


def test_options_that_leave_the_greedy_path_match_too(engine):
    options = [{"temperature": 0.9, "seed": 3}, {"logprobs": 2}, {"dense_head": True}, {"trace": True}]
    listeners = [run(engine, "x", max_tokens=8, **each) for each in options]
    for each, listener in zip(options, listeners, strict=True):
        assert listener.last.generation.tokens == fake_model().generate("x", max_tokens=8, **each).tokens
    assert listeners[1].events[0].chosen.logprobs is not None
    assert listeners[3].events[0].chosen.candidates


def test_timings_are_the_wall_time():
    engine = BatchEngine(fake_model(seconds=0.01), slots=2)
    ends = {}
    started = time.perf_counter()
    waiting = []
    for i in range(5):
        ended = threading.Event()

        def receive(event, i=i, ended=ended):
            if isinstance(event, DoneEvent):
                ends[i] = time.perf_counter() - started, event.timings.total
                ended.set()

        engine.submit(engine.model.encode(f"{i}"), GenerationOptions(max_tokens=10), receive)
        waiting.append(ended)
    assert all(ended.wait(20) for ended in waiting)
    for wall, total in ends.values():
        assert total == pytest.approx(wall, rel=0.02, abs=0.01)
    engine.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_defect_of_the_engine_reaches_those_that_wait():
    engine = BatchEngine(fake_model())
    engine._engine.memory.lend = lambda tokens, length: 1 / 0
    assert isinstance(run(engine, "x").last, FailedEvent)
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        run(engine, "x")
