"""Rules by which byte-level vocabularies cut a text into words, by their names in GGUF files."""

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split


@dataclass(frozen=True)
class Rules:
    """The rules of a byte-level vocabulary.

    Parameters
    ----------
    cut
        Makes the pre-tokenizer that cuts a text into words, which are merged separately.
    whole_words
        Whether a word that is a token becomes that token without merges.
    starts_with_bos
        Whether a text starts with BOS where the file does not say so.
    composes
        Whether characters are composed first (NFC).
    """

    cut: Callable[[], PreTokenizer]
    whole_words: bool = False
    starts_with_bos: bool = False
    composes: bool = False


def _gpt2() -> PreTokenizer:
    return ByteLevel(add_prefix_space=False, use_regex=True)


def _single_digits() -> PreTokenizer:
    return Sequence([Digits(individual_digits=True), _gpt2()])


def _by(pattern: str) -> Callable[[], PreTokenizer]:
    def cut() -> PreTokenizer:
        words = Split(Regex(pattern), behavior="isolated")
        return Sequence([words, ByteLevel(add_prefix_space=False, use_regex=False)])

    return cut


# The regular expressions are those of the models' own tokenizers.
_DIGIT_TRIPLES = _by(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN = _by(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = _by(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_LLAMA3 = Rules(_DIGIT_TRIPLES, whole_words=True, starts_with_bos=True)

PRE_TOKENIZERS: dict[str, Rules] = {
    "default": Rules(_gpt2),
    "gpt-2": Rules(_gpt2),
    "smollm": Rules(_single_digits),
    "starcoder": Rules(_single_digits),
    "refact": Rules(_single_digits),
    "minerva-7b": Rules(_single_digits),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "pixtral": _LLAMA3,
    "smaug-bpe": Rules(_DIGIT_TRIPLES),
    "dbrx": Rules(_DIGIT_TRIPLES),
    # llama.cpp does not compose, but Qwen's own tokenizer does, and so its training text was.
    "qwen2": Rules(_QWEN, composes=True),
    "deepseek-r1-qwen": Rules(_QWEN),
    "megrez": Rules(_QWEN),
    "tekken": Rules(_TEKKEN, whole_words=True, starts_with_bos=True),
}
"""Rules by the value of `tokenizer.ggml.pre`."""
