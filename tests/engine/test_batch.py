import threading
import time

import pytest
from engine.fakes import fake_model

from shortlist.engine.batch import BatchEngine, QueueFull
from shortlist.engine.events import DoneEvent, TokenEvent
from shortlist.engine.options import GenerationOptions
from shortlist.errors import UsageError


class Listener:
    """Collects the events of one request."""

    def __init__(self):
        self.events = []
        self.ended = threading.Event()

    def __call__(self, event):
        self.events.append(event)
        if not isinstance(event, TokenEvent):
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
