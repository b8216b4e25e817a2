"""Real models: every answer of a batch is what the model answers alone."""

import threading
from pathlib import Path

import pytest

import shortlist
from shortlist.engine.batch import BatchEngine
from shortlist.engine.events import DoneEvent, TokenEvent
from shortlist.engine.options import GenerationOptions
from shortlist.fit import fit

TEXT = Path(__file__).parents[2] / "benchmarks" / "data" / "shakespeare.txt"
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):",
    "Water boils at",
    "The three primary colours are",
    "To be, or not to be,",
    "A recipe for bread: first,",
    "The lighthouse keeper had not spoken to anyone for " + "many, " * 60 + "years.",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "gemma"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "top_p": 0.9, "seed": 7}])
@pytest.mark.parametrize("head", ["exact", "estimated"])
def test_every_answer_is_what_the_model_answers_alone(request, name, options, head, tmp_path, monkeypatch):
    path = request.getfixturevalue(name)
    if head == "estimated":
        monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))  # the recipe is this test's own
        fit(path, text=TEXT.read_text(encoding="utf-8"))
    with shortlist.load(path, head=head, context=512) as model:
        alone = [model.generate(prompt, max_tokens=24, **options).tokens for prompt in PROMPTS]
        engine = BatchEngine(model, slots=5)
        ended = threading.Semaphore(0)
        last: dict[int, object] = {}
        for i, prompt in enumerate(PROMPTS):

            def receive(event, i=i):
                if not isinstance(event, TokenEvent):
                    last[i] = event
                    ended.release()

            engine.submit(model.encode(prompt), GenerationOptions(max_tokens=24, **options), receive)
        for _ in PROMPTS:
            assert ended.acquire(timeout=300)
        engine.close()
    assert all(isinstance(event, DoneEvent) for event in last.values())
    assert [last[i].generation.tokens for i in range(len(PROMPTS))] == alone
