import pytest

from shortlist.errors import UsageError
from shortlist.nearest import did_you_mean, options_checked


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("temprature", " (did you mean temperature?)"),
        ("TOP_K", " (did you mean top_k?)"),
        ("xyzzy", ""),
        ("", ""),
    ],
)
def test_the_nearest_name(name, expected):
    assert did_you_mean(name, ["top_k", "temperature"]) == expected


@options_checked
def cook(dish, *, salt=0, pepper=0):
    """Some docs."""
    return dish, salt, pepper


def test_known_options_pass():
    assert cook("soup", salt=1, pepper=2) == ("soup", 1, 2)
    assert cook(dish="soup") == ("soup", 0, 0)
    assert cook.__doc__ == "Some docs."


def test_an_unknown_option_names_the_nearest_or_all():
    with pytest.raises(UsageError, match=r"no option peper \(did you mean pepper\?\)"):
        cook("soup", peper=1)  # pyright: ignore
    with pytest.raises(UsageError, match="no option xyzzy: its options are dish, salt, pepper"):
        cook("soup", xyzzy=1)  # pyright: ignore


def test_positional_mistakes_stay_pythons_own():
    with pytest.raises(TypeError):
        cook()  # pyright: ignore
