"""What a batch engine counts, and where its limits lie."""

import threading
import time

import pytest
from engine.fakes import fake_model
from engine.test_batch import Listener, run

from shortlist.engine.batch import BatchEngine
from shortlist.engine.events import DoneEvent, FailedEvent
from shortlist.engine.options import GenerationOptions
from shortlist.errors import UsageError
from shortlist.server.settings import ServerSettings


@pytest.mark.parametrize(("slots", "queue"), [(0, 1), (1, 0)])
def test_an_engine_without_slots_or_queue_is_refused(slots, queue):
    with pytest.raises(UsageError, match=f"not {slots} and {queue}"):
        BatchEngine(fake_model(), slots=slots, queue=queue)


def test_one_slot_and_one_place_in_the_queue_are_enough():
    engine = BatchEngine(fake_model(), slots=1, queue=1)
    assert isinstance(run(engine, "x", max_tokens=2).last, DoneEvent)
    engine.close()


def test_prompt_and_answer_may_fill_the_kv_memory_and_no_more():
    engine = BatchEngine(fake_model(), kv_tokens=40)
    prompt = [1] * 30
    with pytest.raises(UsageError, match="30 tokens and 11 more"):
        engine.submit(prompt, GenerationOptions(max_tokens=11), print)
    with pytest.raises(UsageError, match="40 tokens and 1 more"):
        engine.submit([1] * 40, GenerationOptions(max_tokens=None), print)
    listeners = [Listener(), Listener()]
    engine.submit(prompt, GenerationOptions(max_tokens=10), listeners[0])
    engine.submit(prompt, GenerationOptions(max_tokens=None), listeners[1])
    assert [len(each.last.generation.tokens) for each in listeners] == [10, 10]
    assert engine.stats().submitted == 2
    engine.close()


def test_kv_memory_for_the_whole_context_leaves_the_length_to_the_context():
    engine = BatchEngine(fake_model(context=40), kv_tokens=40)
    listener = Listener()
    engine.submit([1] * 30, GenerationOptions(max_tokens=None), listener)
    assert len(listener.last.generation.tokens) == 10
    engine.close()


def test_what_is_counted():
    engine = BatchEngine(fake_model(b"Hello"), slots=3, queue=7, kv_tokens=90)
    prompt = engine.model.encode("abc")  # and the begin token
    listener = Listener()
    engine.submit(prompt, GenerationOptions(max_tokens=9), listener)
    generation, timings = listener.last.generation, listener.last.timings
    stats = engine.stats()
    draws = 6  # the end token is the last
    assert (stats.slots, stats.queue, stats.kv_tokens) == (3, 7, 90)
    assert (stats.submitted, stats.finished, stats.cancelled, stats.failed, stats.refused) == (1, 1, 0, 0, 0)
    assert (stats.waiting, stats.running) == (0, 0)
    assert (stats.prompt_tokens, stats.reused_tokens, stats.generated_tokens) == (4, 0, draws)
    assert (stats.head_rows, stats.head_bytes) == (draws * 2, draws * 1020)
    assert stats.kv_tokens_used == 4 + 5
    assert stats.dense_steps == 0
    token = listener.events[0]
    assert (token.share, token.bytes_read) == (2 / 258, 5000 + 1020)
    own = generation.stats
    assert (own.draws, own.head_rows, own.head_bytes) == (draws, draws * 2, draws * 1020)
    assert (own.prompt_tokens, own.reused_tokens, own.layer_bytes) == (4, 0, 5000)
    assert own.prefill_seconds >= timings.prefill > 0
    assert own.decode_seconds >= timings.decode > 0
    spent = timings.prefill + timings.decode + timings.sampling
    assert own.prefill_seconds + own.decode_seconds == pytest.approx(spent, abs=1e-3)
    # The same again: all but the last token of the prompt is there.
    again = Listener()
    engine.submit(prompt, GenerationOptions(max_tokens=9), again)
    assert again.last.generation.stats.reused_tokens == 3
    assert engine.stats().reused_tokens == 3
    assert engine.stats().prompt_tokens == 8
    engine.close()
    assert engine.stats().steps == 2 * draws
    assert engine.stats().step_seconds > 0 < engine.stats().head_seconds


def test_the_cost_of_a_step_is_learned_from_what_it_computed():
    engine = BatchEngine(fake_model(b"Hello"))
    seen = []
    engine._engine._cost.observe = lambda *arguments: seen.append(arguments)
    listener = Listener()
    engine.submit([1] * 9, GenerationOptions(max_tokens=3), listener)
    assert isinstance(listener.last, DoneEvent)
    engine.close()
    # Decoded, read, attended: the prompt's nine tokens attend to four before them on average.
    assert [each[:3] for each in seen] == [(0, 9, 9 * 4), (1, 0, 9), (1, 0, 10)]
    assert all(each[3] > 0 for each in seen)


def test_an_error_of_the_head_ends_those_that_it_met():
    engine = BatchEngine(fake_model())
    engine.model.head.argmax_together = lambda hidden: 1 / 0
    failed = run(engine, "x", max_tokens=3).last
    assert isinstance(failed, FailedEvent)
    assert isinstance(failed.error, ZeroDivisionError)
    sampled = run(engine, "x", max_tokens=3, temperature=1.0)  # on another path
    assert isinstance(sampled.last, DoneEvent)
    stats = engine.stats()
    assert (stats.failed, stats.finished, stats.running) == (1, 1, 0)
    engine.close()


def test_a_call_that_fails_or_was_cancelled_disturbs_nobody():
    engine = BatchEngine(fake_model(seconds=0.01))
    listener = run(engine, "x", max_tokens=20)
    called = []
    failing = engine.call(lambda model: 1 / 0)
    cancelled = engine.call(called.append)
    assert cancelled.cancel()
    with pytest.raises(ZeroDivisionError):
        failing.result(5)
    assert isinstance(listener.last, DoneEvent)
    assert called == []
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.call(called.append)


def test_a_request_that_is_cancelled_while_it_waits_has_waited():
    engine = BatchEngine(fake_model(seconds=0.005), slots=1)
    first = run(engine, "x", max_tokens=30)
    listener = Listener()
    job = engine.submit(engine.model.encode("y"), GenerationOptions(max_tokens=5), listener)
    while engine.stats().running == 0:
        time.sleep(0.001)
    job.cancel()
    timings = listener.last.timings
    assert timings.total == timings.queue > 0
    assert listener.last.generation.tokens == []
    assert isinstance(first.last, DoneEvent)
    engine.close()


def test_requests_get_slots_in_their_order():
    engine = BatchEngine(fake_model(seconds=0.002), slots=1)
    ended = []
    waiting = []
    for name in "abcd":
        done = threading.Event()

        def receive(event, name=name, done=done):
            if isinstance(event, DoneEvent):
                ended.append(name)
                done.set()

        engine.submit(engine.model.encode(name), GenerationOptions(max_tokens=3), receive)
        waiting.append(done)
    assert all(done.wait(20) for done in waiting)
    assert ended == list("abcd")
    engine.close()


def test_what_an_engine_takes_where_nothing_is_said():
    engine = BatchEngine(fake_model())
    stats = engine.stats()
    assert (stats.slots, stats.queue) == (ServerSettings.slots, ServerSettings.queue)
    assert engine._engine.token_seconds == 0.05
    engine.close()


def test_a_call_takes_no_step():
    engine = BatchEngine(fake_model())
    assert engine.call(lambda model: 5).result(5) == 5
    engine.close()
    assert engine.model.decoder.steps == []


def test_an_idle_engine_takes_no_turns():
    engine = BatchEngine(fake_model())
    engine.call(lambda model: None).result(5)
    turns = []
    engine._answer_calls = lambda: turns.append("a turn")
    time.sleep(0.05)
    engine._answer_calls = lambda: None
    assert len(turns) <= 1  # the one that the call was answered in
    engine.close()
