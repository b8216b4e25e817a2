"""Prints tables without cropping: full width in files and pipes, records on a narrow terminal."""

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FILE_WIDTH = 10_000
"""Columns of a table in a file or a pipe, whose readers want each row on one line."""


def console(stream: TextIO | None = None) -> "Console":
    """A console on standard output, or another stream, without colours of numbers or cropping in files."""
    from rich.console import Console

    target: TextIO = sys.stdout if stream is None else stream
    width = None if target.isatty() else FILE_WIDTH
    return Console(file=target, highlight=False, markup=False, emoji=False, width=width)


def print_table(out: "Console", table: "Table") -> None:
    """Print all of a table.

    If it has headings and the terminal is too narrow, each row is printed as lines, one for each column.
    Without headings, cells wrap.
    """
    for column in table.columns:
        column.overflow = "fold"  # rich would replace the end of a long word by three dots
    wanted = out.measure(table, options=out.options.update(width=FILE_WIDTH)).maximum
    if not table.show_header or wanted <= out.width:
        out.print(table)
        return
    if table.title:
        out.print(table.title, soft_wrap=True)
    headings = [" ".join(str(column.header).split()) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *cells = (str(cell) for cell in list(row))
        out.print(first, soft_wrap=True)
        for heading, cell in zip(headings[1:], cells, strict=True):
            if cell:
                out.print(f"  {heading}: {cell}", soft_wrap=True)
