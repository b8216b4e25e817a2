from types import SimpleNamespace
from typing import Any, cast

import pytest
from models.vocabularies import byte_level

from shortlist.engine.growing import Generation, GrowingText
from shortlist.engine.options import GenerationOptions
from shortlist.models.tokenizer import Tokenizer
from shortlist.models.tokenizer_gguf import read_gguf

TOKENIZER = Tokenizer(read_gguf(byte_level("gpt-2"), "MODEL"), "MODEL")
START, END, EOT = 395, 396, 394


def grow(text: str, **options: Any) -> tuple[Generation, str]:
    """What becomes of a text that a model writes, and the pieces that are passed on, joined."""
    generation = Generation(cast(Any, None), None)
    chooser = cast(Any, SimpleNamespace(push=lambda token: None))
    growing = GrowingText([1], GenerationOptions(**options), TOKENIZER, generation, chooser)
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
    growing = GrowingText([1], GenerationOptions(stop="<|im_end|>"), TOKENIZER, generation, chooser)
    for token in [*TOKENIZER.encode("🙂")[:2], END]:
        growing.add(cast(Any, SimpleNamespace(token=token, logprobs=None)))
    assert generation.text == "\ufffd"
    assert generation.tokens == TOKENIZER.encode("🙂")[:2]
