import itertools
import time
import weakref

import numpy as np
import pytest
from engine.fakes import fake_model as model
from hypothesis import given, settings
from hypothesis import strategies as st

from shortlist.engine.options import GenerationOptions
from shortlist.errors import UsageError

PROMPT = "Say:"
PROMPT_TOKENS = 1 + len(PROMPT)


def scripted(text, **changes):
    """A model that answers every prompt with `text` and then ends."""
    return model(text if isinstance(text, bytes) else text.encode(), **changes)


def test_a_text_ends_where_the_model_ends_it():
    generation = scripted("Hello").generate(PROMPT)
    assert generation.text == "Hello"
    assert generation.tokens == list(b"Hello")
    assert generation.finish_reason == "stop"
    assert generation.seed is None


def test_a_text_ends_after_the_tokens_that_were_asked_for():
    generation = scripted("Hello").generate(PROMPT, max_tokens=3)
    assert (generation.text, generation.finish_reason) == ("Hel", "length")


@given(st.text(max_size=20))
def test_a_stream_never_splits_a_character(text):
    stream = scripted(text).stream(PROMPT, max_tokens=100)
    pieces = list(stream)
    assert "".join(pieces) == text == stream.generation.text
    assert all(pieces)
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text


def test_bytes_that_are_no_character_are_shown_as_such():
    assert scripted(b"a\xff").generate(PROMPT).text == "a\ufffd"
    assert scripted("né".encode()).generate(PROMPT, max_tokens=2).text == "n\ufffd"


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_strings_end_the_text_and_are_not_in_it(text, stops):
    generation = scripted(text).generate(PROMPT, stop=stops, max_tokens=40)
    assert text.startswith(generation.text)
    assert not any(stop in generation.text for stop in stops)
    assert (generation.text == text) == (not any(stop in text for stop in stops))
    assert generation.finish_reason == "stop"


def test_no_limit_means_the_context():
    assert len(model(context_length=40).generate("x", max_tokens=None).tokens) == 40 - 2


def test_a_stop_string_stops_the_work():
    stopped = scripted("one\ntwo\nthree")
    assert stopped.generate(PROMPT, stop="\n").text == "one"
    assert len(stopped.decoder.forwarded) == PROMPT_TOKENS + 3


def test_greedy_uses_argmax_and_sampling_draws():
    greedy, drawn, listed = model(), model(), model()
    greedy.generate("x", max_tokens=3)
    drawn.generate("x", max_tokens=3, temperature=1.0)
    listed.generate("x", max_tokens=3, logprobs=0)
    assert [set(each.head.calls) for each in (greedy, drawn, listed)] == [{"argmax"}, {"draws"}, {"logits"}]


def test_every_path_through_the_head_gives_the_same_text():
    for options in ({}, {"temperature": 1.0, "seed": 4}, {"temperature": 0.8, "top_p": 0.7, "seed": 4}):
        plain = model().generate("x", max_tokens=20, **options)
        with_logprobs = model().generate("x", max_tokens=20, logprobs=2, **options)
        assert plain.tokens == with_logprobs.tokens


def test_the_seed_is_reported_and_repeats_the_text():
    first = model().generate("x", max_tokens=20, temperature=1.0)
    assert first.seed is not None
    assert model().generate("x", max_tokens=20, temperature=1.0, seed=first.seed).tokens == first.tokens
    assert model().generate("x", max_tokens=20, temperature=1.0).tokens != first.tokens


def test_repetition_penalty_sees_prompt_and_answer():
    plain = model().generate("x", max_tokens=30)
    penalised = model().generate("x", max_tokens=30, repetition_penalty=100.0)
    assert len(set(penalised.tokens)) == len(penalised.tokens) > len(set(plain.tokens))
    assert ord("x") not in penalised.tokens


def test_logprobs_cover_the_vocabulary():
    generation = model().generate("x", max_tokens=2, logprobs=100)
    assert generation.logprobs is not None
    for token, entry in zip(generation.tokens, generation.logprobs, strict=True):
        assert entry.chosen.token == token == entry.top[0].token
        logprobs = [each.logprob for each in entry.top]
        assert logprobs == sorted(logprobs, reverse=True)
        assert 0.5 < sum(np.exp(logprobs)) < 1


def test_a_second_prompt_reuses_what_it_shares_with_the_first():
    shared = model()
    first = shared.generate("abcdef", max_tokens=4)
    before = len(shared.decoder.forwarded)
    second = shared.generate("abcxyz", max_tokens=4)
    assert second.stats.reused_tokens == 4
    assert len(shared.decoder.forwarded) - before == 3 + 3
    assert second.tokens == model().generate("abcxyz", max_tokens=4).tokens
    # All of the prompt is in the cache: its last token is computed again, because its hidden state is needed.
    assert shared.generate("abcxyz", max_tokens=4).tokens == second.tokens
    assert shared.generate("abcdef", max_tokens=4).tokens == first.tokens


@settings(max_examples=30)
@given(st.lists(st.text("ab", min_size=1, max_size=5), min_size=2, max_size=3), st.randoms())
def test_interleaved_streams_do_not_disturb_each_other(prompts, random):
    shared = model()
    streams = [shared.stream(prompt, max_tokens=6) for prompt in prompts]
    turns = [stream for stream in streams for _ in range(12)]
    random.shuffle(turns)
    for stream in turns:
        next(stream, None)
    for prompt, stream in zip(prompts, streams, strict=True):
        assert stream.generation.tokens == model().generate(prompt, max_tokens=6).tokens


def test_an_interrupted_prefill_leaves_a_usable_model():
    interrupted = model()
    interrupted.decoder.interrupt_after = 3
    with pytest.raises(KeyboardInterrupt):
        interrupted.generate("abcdef", max_tokens=4)
    assert (
        interrupted.generate("abcdef", max_tokens=4).tokens == model().generate("abcdef", max_tokens=4).tokens
    )


def test_an_abandoned_stream_keeps_what_was_written():
    stream = scripted("Hello").stream(PROMPT)
    assert "".join(itertools.islice(stream, 2)) == "He"
    assert (stream.generation.text, stream.generation.finish_reason) == ("He", None)


def test_prompt_and_answer_must_fit_the_context_before_work_starts():
    small = model(context_length=16)
    with pytest.raises(
        UsageError, match=r"the prompt has 5 tokens and 20 more .* holds 16: .* at most 11 tokens"
    ):
        small.stream(PROMPT, max_tokens=20)
    with pytest.raises(UsageError, match="shorten the prompt"):
        small.stream("x" * 40, max_tokens=1)
    assert small.decoder.forwarded == []
    assert len(small.generate(PROMPT, max_tokens=11).tokens) <= 11

    bounded = model(context=10)
    with pytest.raises(UsageError, match=r"context of 25 \(--context\) or ask for at most 5"):
        bounded.stream(PROMPT, max_tokens=20)


def test_a_context_beyond_the_training_is_refused():
    for context in (0, 1025):
        with pytest.raises(UsageError, match="from 1 to 1024"):
            model(context=context)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "prompt is empty"),
        ([], "prompt is empty"),
        ("ab\udcff", "character 3"),
        ([1, 258], "token 258 is not in the vocabulary"),
        ([-1], "token -1"),
    ],
)
def test_prompts_that_cannot_be_used_say_why(prompt, message):
    with pytest.raises(UsageError, match=message):
        model().stream(prompt)


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"logprobs": -1}, {"stop": ""}, {"stop": ["a", ""]}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError):
        model().stream("x", **options)


def test_stats_count_what_was_read():
    generation = scripted("Hello").generate(PROMPT)
    stats = generation.stats
    assert stats.prompt_tokens == PROMPT_TOKENS
    assert stats.draws == 6  # five letters and the end
    assert stats.bytes_per_token == 5000 + 1020
    assert stats.head_rows_share == pytest.approx(2 / 258)
    assert stats.full_draws == 0
    assert stats.decode_tokens_per_s is not None
    assert stats.decode_tokens_per_s > 0
    assert stats.to_dict()["peak_rss_mb"] > 1


def test_stats_of_one_token_have_no_decode_speed():
    stats = scripted("Hello").generate(PROMPT, max_tokens=1).stats
    assert stats.decode_tokens_per_s is None


def test_closing_releases_the_parts():
    with model() as closed:
        decoder = weakref.ref(closed.decoder)
        closed.close()
    assert decoder() is None


def test_it_is_told_how_far_a_prompt_is_read():
    answering = model(b"answer")
    for prompt, read in (("abc", (4, 4)), ("abcdef", (7, 7))):
        heard = []
        stream = answering.stream(
            prompt, max_tokens=3, on_prompt=lambda *figures, heard=heard: heard.append(figures)
        )
        list(stream)
        assert heard == [read], "once, and not for the tokens of the answer"


def test_options_are_given_whole_or_by_name():
    options = GenerationOptions(max_tokens=3)
    assert model().generate("x", options).tokens == model().generate("x", max_tokens=3).tokens
    assert len(list(model().stream("x", options).generation.tokens)) == 0
    with pytest.raises(UsageError, match="whole or by name"):
        model().stream("x", options, max_tokens=4)


def test_what_a_caller_does_between_two_pieces_is_not_the_texts_time():
    stream = scripted("Hello").stream(PROMPT)
    for _ in stream:
        time.sleep(0.03)
    stats = stream.generation.stats
    assert stats.prefill_seconds + stats.decode_seconds < 0.05


def test_a_text_whose_memory_another_one_took_is_read_again_and_goes_on():
    shared = model()
    first = shared.stream("abcdef", max_tokens=8)
    next(first)
    written = len(first.generation.tokens)
    shared.generate("xyz", max_tokens=8)
    before = len(shared.decoder.forwarded)
    list(first)
    # All but the begin token, which both share, is computed anew.
    again = len(shared.decoder.forwarded) - before
    assert again == len("abcdef") + written + (8 - written - 1)
    assert first.generation.tokens == model().generate("abcdef", max_tokens=8).tokens
    assert first.generation.stats.reused_tokens == 0
    assert first.generation.stats.prompt_tokens == 7


def test_an_abandoned_stream_gives_its_memory_back():
    shared = model()
    stream = shared.stream("abc", max_tokens=8)
    next(stream)
    del stream
    shared.generate("x", max_tokens=2)
    assert shared._engine.running == []
