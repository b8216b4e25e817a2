import pytest
from model.tokenizer.vocabularies import byte_level

from shortlist.model.tokenizer.gguf import read_gguf
from shortlist.model.tokenizer.parts import FILL_IN_ENDS, find_ends


def ends(*tokens: str, special: bool = True, **named: int) -> set[str]:
    found = find_ends(
        lambda token: tokens.index(token) if token in tokens else None, lambda i: special, named
    )
    return {tokens[i] for i in found}


# Written down once more: a name that is lost here is an end that is not seen.
NAMES = """
<|im_end|> <end_of_turn> <|eot_id|> <|eom_id|> <|end|> <|return|> <|call|> <|calls|> <|flush|> <|endoftext|>
<|end_of_text|> </s> <eos> <EOT> _<EOT> [EOT] [EOS] <end_of_utterance> <turn|> <|tool_response> [e~[
<｜end▁of▁sentence｜> <|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD] <|fim_repo|> <|repo_name|> <fim-repo> <REPO>
<reponame> <|file_sep|>
"""


@pytest.mark.parametrize("token", NAMES.split())
def test_tokens_that_end_a_text_by_name(token):
    assert ends("a", token, "b") == {token}


@pytest.mark.parametrize(
    "token", ["<|im_start|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<s>", "<unk>"]
)
def test_others_do_not(token):
    assert ends("a", token) == set()


def test_of_the_fill_in_tokens_the_first_of_a_kind_counts():
    assert ends("[PAD]", "<|fim_pad|>", "<REPO>", "<|repo_name|>") == {"<|fim_pad|>", "<|repo_name|>"}


@pytest.mark.parametrize("key", FILL_IN_ENDS)
def test_a_key_goes_before_the_names(key):
    name = FILL_IN_ENDS[key][0]
    assert ends("a", "b", name, **{key: 1}) == {"b"}
    assert ends("a", "b", name, **{key: 0}) == {"a"}


def test_an_html_tag_is_no_end():
    assert ends("</s>", "<eos>", special=False) == {"<eos>"}
    assert ends("</s>", "<|tool_response>") == {"<|tool_response>"}


@pytest.mark.parametrize(
    ("tokens", "ended"),
    [
        (["<|return|>", "<|call|>"], False),
        (["<|flush|>", "<|calls|>"], False),
        (["<|flush|>", "<|call|>"], False),
        (["<|return|>"], True),
        (["<|call|>"], True),
        (["<|flush|>"], True),
    ],
)
def test_the_end_of_a_part_of_a_turn(tokens, ended):
    assert ends("<|end|>", *tokens) == {*tokens, *(["<|end|>"] * ended)}


@pytest.mark.parametrize(
    "key",
    [
        "eos_token_id",
        "eot_token_id",
        "eom_token_id",
        "fim_pad_token_id",
        "fim_rep_token_id",
        "fim_sep_token_id",
    ],
)
def test_keys_of_a_gguf_file(key):
    parts = read_gguf(byte_level("gpt-2") | {f"tokenizer.ggml.{key}": 7}, "MODEL")
    assert parts.eos_ids == {7, 394, 396}
    # What ends a text is never part of one.
    assert parts.backend.get_added_tokens_decoder()[7].special


@pytest.mark.parametrize(
    "key", ["fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id", "padding_token_id"]
)
def test_keys_that_name_no_end(key):
    assert read_gguf(byte_level("gpt-2") | {f"tokenizer.ggml.{key}": 7}, "MODEL").eos_ids == {394, 396}
