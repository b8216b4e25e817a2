"""No table loses a character, however narrow the terminal, or in a file."""

import io

import pytest
from rich.table import Table

from shortlist.cli.tables import console, print_table

PATH = "/a/path/" + "that-is-long/" * 10 + "model.gguf"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def table(headings=True):
    result = Table(title="what was measured") if headings else Table.grid(padding=(0, 2))
    for heading in ("engine", "decode\ntokens/s", "peak memory"):
        result.add_column(heading if headings else "", no_wrap=headings)
    result.add_row("shortlist [dense]", "1234.5", "333.3 MB")
    result.add_row("llama.cpp", "", "300.1 MB")
    return result


def shown(stream, table, columns=None, monkeypatch=None):
    if columns:
        monkeypatch.setenv("COLUMNS", str(columns))
    print_table(console(stream), table)
    return stream.getvalue()


@pytest.mark.parametrize("columns", [20, 40])
def test_rows_become_records_where_the_terminal_is_too_narrow(monkeypatch, columns):
    out = shown(Terminal(), table(), columns, monkeypatch)
    assert out.splitlines() == [
        "what was measured",
        "shortlist [dense]",
        "  decode tokens/s: 1234.5",
        "  peak memory: 333.3 MB",
        "llama.cpp",
        "  peak memory: 300.1 MB",
    ]


def test_a_table_that_fits_stays_one(monkeypatch):
    width = max(map(len, shown(io.StringIO(), table()).splitlines()))
    assert "│" in shown(Terminal(), table(), width, monkeypatch)
    assert "│" not in shown(Terminal(), table(), width - 1, monkeypatch)


def test_a_file_gets_full_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("file", PATH)
    assert f"file  {PATH}" in shown(io.StringIO(), facts)
    assert "1234.5" in shown(io.StringIO(), table())
    assert "│" in shown(io.StringIO(), table())


@pytest.mark.parametrize("columns", [20, 60])
def test_facts_wrap_and_lose_nothing(monkeypatch, columns):
    facts = Table.grid(padding=(0, 2))
    facts.add_row("file", PATH)
    out = shown(Terminal(), facts, columns, monkeypatch)
    assert "".join(line.strip() for line in out.splitlines()).replace(" ", "") == "file" + PATH
    assert max(map(len, out.splitlines())) <= columns


def test_numbers_are_not_coloured_and_brackets_are_text():
    out = Terminal()
    console(out).print("[bold]12[/bold] :smile:")
    assert out.getvalue() == "[bold]12[/bold] :smile:\n"
