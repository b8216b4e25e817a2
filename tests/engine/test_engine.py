"""The decode loop without a thread."""

from engine.fakes import fake_model

from shortlist.engine.engine import Engine
from shortlist.engine.options import GenerationOptions


class Counted(list):
    """Tokens that count how many of them are looked at."""

    touched = 0

    def __getitem__(self, place):
        found = super().__getitem__(place)
        self.touched += len(found) if isinstance(place, slice) else 1
        return found

    def __iter__(self):
        for token in super().__iter__():
            self.touched += 1
            yield token

    def __eq__(self, other):
        self.touched += len(self)
        return list.__eq__(self, other)

    __hash__ = None


def test_a_decode_step_looks_at_its_own_token_alone_however_long_the_text_is():
    model = fake_model(b"abcdefgh" * 9, context_length=5000)
    sequence = model.prepare([1] * 4000, GenerationOptions(max_tokens=60))
    sequence.tokens = tokens = Counted(sequence.tokens)
    pieces = model._engine.pieces(sequence)
    next(pieces)
    tokens.touched = 0
    for _ in range(50):
        next(pieces)
    assert tokens.touched == 50


def engine_of(model, **options):
    return Engine(model.decoder, model.dense_head, model.context, **options)


def waiting(engine, model, *prompts, max_tokens=3):
    made = [model.prepare(model.encode(each), GenerationOptions(max_tokens=max_tokens)) for each in prompts]
    engine.waiting.extend(made)
    return made


def test_a_step_takes_one_token_of_each_in_decode_and_some_of_each_prompt():
    model = fake_model(b"Hello there")
    engine = engine_of(model, slots=2)
    first, second = waiting(engine, model, [1, 2, 3], [4, 5, 6, 7, 8])
    engine.step()
    assert model.decoder.steps == [[3, 5]]
    engine.step()
    assert model.decoder.steps[1:] == [[1, 1]]
    engine.step()
    assert (first.finished, second.finished, engine.running) == (True, True, [])
    assert engine.stats.steps == 3


def test_sequences_wait_in_their_order_while_there_is_no_slot():
    model = fake_model()
    engine = engine_of(model, slots=1)
    first, second, third = waiting(engine, model, "a", "b", "c", max_tokens=2)
    engine.step()
    assert (engine.running, list(engine.waiting)) == ([first], [second, third])
    second.cancel()
    engine.step()
    assert (engine.running, list(engine.waiting)) == ([], [third])
    engine.step()
    assert engine.running == [third]
    assert (engine.stats.finished, engine.stats.cancelled) == (1, 1)


def test_a_step_without_sequences_computes_nothing():
    model = fake_model()
    engine_of(model).step()
    assert model.decoder.steps == []


def test_prefill_of_a_single_sequence_goes_in_pieces_that_ctrl_c_can_end():
    model = fake_model(context_length=2000)
    list(model.stream([1] * 600, max_tokens=2))
    assert model.decoder.steps == [[256], [256], [88], [1]]
