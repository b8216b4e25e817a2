import operator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shortlist.model.chat.traced import Span, Traced, joined, lifted, spans_of, traced_data, wholly

texts = st.text("ab <>|ß", max_size=8)


def mixed(*pieces: str) -> str:
    """Pieces in turn of a template and of a message."""
    return joined(wholly(piece) if place % 2 else piece for place, piece in enumerate(pieces))


def shown(text: str) -> str:
    """The text with brackets around what comes from messages, braces where that is not sure."""
    for start, end, sure in reversed(spans_of(text)):
        opened, closed = "[]" if sure else "{}"
        text = str.__str__(text)[:start] + opened + text[start:end] + closed + str.__str__(text)[end:]
    return str.__str__(text)


TEXT = mixed("one ", "two three", " four")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (TEXT, "one [two three] four"),
        (TEXT[2:6], "e [tw]"),
        (TEXT[5:-7], "[wo thr]"),
        (TEXT[13:], " four"),
        (TEXT[:4], "one "),
        (TEXT[4], "[t]"),
        (TEXT[-1], "r"),
        (TEXT[::-1], "[ruof eerht owt eno]"),
        ("one"[::-1], "eno"),
        ("a" + TEXT + "b", "aone [two three] fourb"),
        (TEXT + wholly("!"), "one [two three] four[!]"),
        (TEXT.removeprefix("one t"), "[wo three] four"),
        (TEXT.removesuffix("ee four"), "one [two thr]"),
        (TEXT.replace("e", "E"), "onE [two thr]EE four"),
        (TEXT.replace("o", wholly("0"), 2), "[0]ne [tw][0][ three] four"),
        (TEXT.replace("three", "x"), "one [two ]x four"),
        (TEXT.replace("x", "y"), "one [two three] four"),
        (wholly("ab").replace("", "-"), "{-a-b-}"),
        (mixed(" ", " a ", " ").strip(), "[a]"),
        (mixed(" ", " a ", " ").lstrip(), "[a ] "),
        (mixed(" ", " a ", " ").rstrip(), " [ a]"),
        (mixed("<", "<a>", ">").strip("<>"), "[a]"),
        (wholly("   ").strip(), ""),
        (str(TEXT), "one [two three] four"),
    ],
)
def test_pieces_of_a_text(made, expected):
    assert shown(made) == expected


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (TEXT.split(), ["one", "[two]", "[three]", "four"]),
        (TEXT.split(" ", 2), ["one", "[two]", "[three] four"]),
        (TEXT.split(maxsplit=1), ["one", "[two three] four"]),
        (TEXT.rsplit(" ", 1), ["one [two three]", "four"]),
        (TEXT.rsplit(None, 2), ["one [two]", "[three]", "four"]),
        (mixed("ab-b", "b").split("b-"), ["a", "b[b]"]),
        (mixed("a\n", "b\r\n", "c").splitlines(), ["a", "[b]", "c"]),
        (mixed("a\n", "b\r\n", "c").splitlines(True), ["a\n", "[b\r\n]", "c"]),
        (TEXT.partition("two"), ["one ", "[two]", "[ three] four"]),
        (TEXT.rpartition(" "), ["one [two three]", " ", "four"]),
        (TEXT.partition("five"), ["one [two three] four", "", ""]),
        (list(TEXT)[3:6], [" ", "[t]", "[w]"]),
    ],
)
def test_a_text_that_is_cut(made, expected):
    assert [shown(piece) for piece in made] == expected


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lifted(operator.mod, "%s|%s", ("x", wholly("y"))), "x|[y]"),
        (lifted(operator.mod, TEXT, ()), "one [two three] four"),
        (lifted(operator.mul, TEXT[2:6], 2), "e [tw]e [tw]"),
        (lifted(str.upper, TEXT), "ONE [TWO THREE] FOUR"),
        (lifted(str.title, wholly("two three")), "[Two Three]"),
        (lifted(str.upper, wholly("ß") + "ab"), "[SS]AB"),
        (lifted(str.replace, "a b", "b", wholly("c")), "a [c]"),
        (lifted(str.replace, mixed("a b ", "b"), "b", "c"), "a c [c]"),
        (lifted(str.join, ", ", ["a", wholly("b")]), "a, [b]"),
        (lifted(str.join, wholly(", "), ("a", "b")), "a[, ]b"),
        (lifted(str, [wholly("a"), {"b": wholly("c")}]), "['[a]', {'b': '[c]'}]"),
        (lifted(ascii, [wholly("a")]), "['[a]']"),
        (lifted("{}{x}".format, wholly("a"), x=wholly("b")), "[a][b]"),
        (lifted(str.center, wholly("a"), 5), "{  a  }"),  # marks are wide: all of it may be a message's
        (lifted(str.upper, "plain"), "PLAIN"),
        (lifted(str.upper, wholly("a", sure=False)), "{A}"),
        (lifted("{}b".format, wholly("a", sure=False)), "{ab}"),
    ],
)
def test_functions_that_know_nothing_of_it(made, expected):
    assert shown(made) == expected


def test_what_a_function_gives_besides_text_is_left_alone():
    assert lifted(len, TEXT) == 18
    assert lifted(lambda text: [text], TEXT)[0] is TEXT
    assert lifted(lambda text: "", TEXT) == ""


def test_a_function_that_fails_with_marks():
    assert shown(lifted(lambda text: str(int(text)), wholly("12"))) == "[12]"
    assert shown(lifted(lambda text: str(int(text) + 1), wholly("12"))) == "{13}"


def test_marks_in_a_message_are_not_taken():
    assert shown(lifted("{}!".format, wholly("\u2e28a\u2e29"))) == "[\u2e28a\u2e29]!"


def test_texts_of_a_message():
    made = traced_data({"a": ["b", {"c": "d"}], "e": 1, "f": None})
    assert made == {"a": ["b", {"c": "d"}], "e": 1, "f": None}
    assert spans_of(made["a"][1]["c"]) == (Span(0, 1),)
    assert [type(key) for key in made] == [str] * 3


METHODS = {
    "+": lambda text, other: [text + other, other + text],
    "[]": lambda text, other: [text[1:], text[:2], text[-3:-1], text[::-1], text[::2]],
    "split": lambda text, other: [*text.split(), *text.split(other or "a"), *text.rsplit(" ", 1)],
    "lines": lambda text, other: text.splitlines(),
    "partition": lambda text, other: [*text.partition(other or "a"), *text.rpartition(other or "b")],
    "strip": lambda text, other: [text.strip(), text.lstrip(other), text.rstrip(other)],
    "remove": lambda text, other: [text.removeprefix(other), text.removesuffix(other)],
    "iter": lambda text, other: list(text),
    "upper": lambda text, other: [lifted(str.upper, text), lifted(str.title, text)],
    "replace": lambda text, other: [
        text.replace(other, "x"),
        text.replace("a", other, 1),
        text.replace("", other),
    ],
    "format": lambda text, other: [lifted("<{}>{}".format, text, other)],
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@given(texts, texts, texts, texts)
@example("", "", "", "")
@example(" ", "a<b ", " a", "a")
def test_values_are_those_of_str(method, first, second, third, other):
    traced, plain = mixed(first, second, third), first + second + third
    made = method(traced, other)
    assert made == method(plain, other)
    for text in made:
        assert text.__class__ in (str, Traced)
        assert hash(text) == hash(str.__str__(text))
        assert all(0 <= start < end <= len(text) for start, end, _ in spans_of(text))


@given(st.lists(texts, min_size=1, max_size=6), st.integers(-8, 8), st.integers(-8, 8))
@example(["a", "b", "c"], 1, 2)
@example(["a", "bcd", "e"], 2, -1)
def test_characters_keep_their_origin(pieces, start, end):
    """Capitals mark the text from messages, which must equal the spans."""
    pieces = [piece.lower().replace("ß", "s") for piece in pieces]
    text = mixed(*pieces)
    capitals = "".join(piece.upper() if place % 2 else piece for place, piece in enumerate(pieces))
    for made, expected in [
        (text[start:end], capitals[start:end]),
        (text.strip(), capitals.strip()),
        *zip(text.split(), capitals.split(), strict=True),
        *zip(text.split(" "), capitals.split(" "), strict=True),
        *zip(list(text), list(capitals), strict=True),
    ]:
        for at, character in enumerate(expected):
            owned = any(span.start <= at < span.end for span in spans_of(made))
            assert owned == character.isupper() or not character.isalpha()
