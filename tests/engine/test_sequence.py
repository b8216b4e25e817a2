from types import SimpleNamespace
from typing import Any, cast

import pytest
from model.tokenizer.vocabularies import byte_level, sentence_piece

from shortlist.engine.generation import Generation
from shortlist.engine.options import GenerationOptions
from shortlist.engine.sequence import Sequence
from shortlist.model.tokenizer.gguf import read_gguf
from shortlist.model.tokenizer.tokenizer import Tokenizer

TOKENIZER = Tokenizer(read_gguf(byte_level("gpt-2"), "MODEL"), "MODEL")
START, END, EOT = 395, 396, 394


def grow(text: str, **options: Any) -> tuple[Generation, str]:
    """What becomes of a text that a model writes, and the pieces that are passed on, joined."""
    generation = Generation(cast(Any, None), None)
    chooser = cast(Any, SimpleNamespace(push=lambda token: None))
    growing = Sequence([1], GenerationOptions(**options), TOKENIZER, generation, chooser)
    pieces = []
    for token in TOKENIZER.encode(text, parse_special=True):
        assert not growing.finished
        pieces.append(growing.add(cast(Any, SimpleNamespace(token=token, logprobs=None))))
        if growing.finished:
            break
    return generation, "".join(pieces)


@pytest.mark.parametrize(
    ("written", "stop", "text"),
    [
        ("a<|im_start|>b", "<|im_start|>", "a"),  # a special token
        ("a<|im_start|>\nUser: b", "<|im_start|>\nUser", "a"),  # with text behind it
        ("one two<|im_start|>b", "two<|im_start|>", "one "),  # and in front of it
        ("one two<|im_start|><|im_start|>b", "<|im_start|><|im_start|>", "one two"),
        ("one<|im_end|>", "one<|im_end|>", ""),  # that ends the text anyway
        ("a<|im_start|>b<|im_end|>", "<|im_start|>c", "ab"),  # begun, but not complete
        ("a<|im_start|>b<|im_end|>", "ab", "ab"),  # what is not shown lies in between
        ("a<|im_end|>", "b", "a"),
    ],
)
def test_stop_strings_and_special_tokens(written, stop, text):
    generation, passed = grow(written, stop=stop)
    assert generation.finish_reason == "stop"
    assert generation.text == passed == text


def test_a_special_token_that_is_no_stop_string_is_left_out():
    generation, passed = grow("a<|im_start|>b", stop="x", max_tokens=3)
    assert generation.text == passed == "ab"
    assert generation.tokens == [*TOKENIZER.encode("a"), START, *TOKENIZER.encode("b")]
    assert generation.finish_reason == "length"


def test_a_character_that_is_cut_off_comes_before_the_end():
    generation = Generation(cast(Any, None), None)
    chooser = cast(Any, SimpleNamespace(push=lambda token: None))
    growing = Sequence([1], GenerationOptions(stop="<|im_end|>"), TOKENIZER, generation, chooser)
    for token in [*TOKENIZER.encode("🙂")[:2], END]:
        growing.add(cast(Any, SimpleNamespace(token=token, logprobs=None)))
    assert generation.text == "\ufffd"
    assert generation.tokens == TOKENIZER.encode("🙂")[:2]


def test_how_a_generation_shows_itself():
    generation = Generation(cast(Any, None), None)
    assert repr(generation) == "<Generation '': 0 tokens, unfinished>"
    generation.tokens += [1, 2]
    generation.finish_reason = "stop"
    generation.text = "x" * 60
    assert repr(generation) == f"<Generation '{'x' * 60}': 2 tokens, stop>"
    generation.text += "y"
    assert repr(generation) == f"<Generation '{'x' * 60}...': 2 tokens, stop>"


def growing_with(tokenizer: Tokenizer, pushed: list[int], **options: Any) -> Sequence:
    generation = Generation(cast(Any, None), None, logprobs=options.pop("logprobs", None))
    chooser = cast(Any, SimpleNamespace(push=pushed.append))
    return Sequence([1], GenerationOptions(**options), tokenizer, generation, chooser)


def test_an_answer_keeps_the_space_in_front_of_its_first_word():
    tokenizer = Tokenizer(read_gguf(sentence_piece(prefix=True)[0], "MODEL"), "MODEL")
    growing = growing_with(tokenizer, [])
    pieces = [
        growing.add(cast(Any, SimpleNamespace(token=token, logprobs=None)))
        for token in tokenizer.encode("the dog", add_special=False)
    ]
    assert "".join(pieces) == growing.generation.text == " the dog"


def test_what_a_token_that_is_taken_up_reaches():
    pushed: list[int] = []
    growing = growing_with(TOKENIZER, pushed, max_tokens=9, logprobs=[])
    first, second = TOKENIZER.encode("a") + TOKENIZER.encode("b")
    growing.add(cast(Any, SimpleNamespace(token=first, logprobs="of a")))
    growing.add(cast(Any, SimpleNamespace(token=second, logprobs="of b")))
    assert not growing.finished
    growing.add(cast(Any, SimpleNamespace(token=END, logprobs="of the end")))
    assert growing.finished
    # The token that ended the text is no part of it.
    assert growing.tokens == [1, first, second]
    assert growing.generation.tokens == pushed == [first, second]
    assert growing.generation.logprobs == ["of a", "of b"]


@pytest.mark.parametrize(("stop", "reason", "text"), [("b", "stop", "a"), ("bc", "length", "ab")])
def test_a_stop_string_in_the_last_token_counts_before_the_length(stop, reason, text):
    generation, passed = grow("ab", stop=stop, max_tokens=len(TOKENIZER.encode("ab")))
    assert (generation.finish_reason, generation.text, passed) == (reason, text, text)
