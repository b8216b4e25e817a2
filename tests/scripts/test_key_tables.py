"""The page of settings is what the tables in the code say."""

from scripts.key_tables import PAGE, page, table

from shortlist.spec.keys import Key


def test_the_page_is_up_to_date():
    """`python scripts/key_tables.py` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_keys_with_the_same_line_share_it():
    keys = {
        "a": Key("refused", "why", (0, True)),
        "b": Key("refused", "why", (0, True)),
        "c": Key("used", "what", default=0.5),
    }
    assert table(keys).splitlines()[2:] == [
        "| `a`, `b` | refused (`0`, `True`) |  | why |",
        "| `c` | used | `0.5` | what |",
    ]
