"""A document is of its shape, or is refused with one line that says where it is not."""

from dataclasses import dataclass

import msgspec
import pytest

from shortlist import documents
from shortlist.documents import DocumentError


class Shape(msgspec.Struct):
    name: str
    count: documents.Count = 0
    seconds: documents.Seconds = 1.0
    rest: dict[str, documents.Option] = {}


@dataclass(frozen=True)
class Method:
    width: int = 4
    label: str | None = None

    def __post_init__(self):
        if self.width < 1:
            raise ValueError("width must be 1\nor more")


def test_a_document_is_read():
    text = '{"name": "é", "count": 2147483647, "seconds": 2, "rest": {"a": [1], "b": null, "c": true}}'
    read = documents.read(text.encode(), Shape)
    assert (read.name, read.count, read.seconds) == ("é", 2**31 - 1, 2.0)
    assert read.rest == {"a": [1], "b": None, "c": True}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\xff{}", "not JSON"),
        ("[]", "Expected `object`"),
        ("{}", "missing required field `name`"),
        ('{"name": 1}', r"Expected `str`, got `int` - at `\$.name`"),
        ('{"name": "a", "count": -1}', r">= 0 - at `\$.count`"),
        ('{"name": "a", "count": 2147483648}', r"count"),
        ('{"name": "a", "count": true}', r"got `bool`"),
        ('{"name": "a", "count": 1.5}', r"got `float`"),
        ('{"name": "a", "seconds": 0}', r"> 0.0 - at `\$.seconds`"),
        ('{"name": "a", "seconds": NaN}', r"seconds"),
        ('{"name": "a", "seconds": Infinity}', r"seconds"),
        ('{"name": "a", "rest": {"k": 2147483648}}', r"rest"),
        ('{"name": "a", "rest": {"k": -2147483648}}', r"rest"),
        ('{"name": "a", "rest": {"k": {}}}', r"rest"),
        ('{"name": "a", "more": 9223372036854775808}', "9223372036854775808 is out of range"),
        ('{"name": "a", "more": [-9223372036854775809]}', "-9223372036854775809 is out of range"),
        ('{"name": "a\\ud800"}', "half of a character"),
        ('{"name": "a", "\\udc00": 1}', "half of a character"),
    ],
)
def test_what_is_not_of_the_shape_is_refused(text, reason):
    with pytest.raises(DocumentError, match=reason) as caught:
        documents.read(text, Shape)
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_of_64_bits_pass_where_nothing_reads_them():
    text = '{"name": "a", "more": [9223372036854775807, -9223372036854775808]}'
    assert documents.read(text, Shape).name == "a"


def test_nesting_that_no_document_needs_is_refused():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DocumentError):
        documents.check({"name": "a", "more": deep}, Shape)


def test_a_method_takes_its_own_options_alone():
    assert documents.method({"width": 7}, Method) == Method(7)
    with pytest.raises(DocumentError, match=r"no option wide \(known: label, width\)"):
        documents.method({"wide": 7}, Method)
    with pytest.raises(DocumentError, match="width must be 1 or more"):
        documents.method({"width": 0}, Method)
    with pytest.raises(DocumentError, match="Expected `int`"):
        documents.method({"width": "7"}, Method)
