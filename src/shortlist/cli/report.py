"""`shortlist report`: one page about a model, and the same figures as JSON beside it."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shortlist.cli import options as shared
from shortlist.cli.loading import load_model
from shortlist.cli.output import print_json
from shortlist.cli.text_input import read_text
from shortlist.errors import UsageError
from shortlist.paths import write_whole

if TYPE_CHECKING:
    from shortlist.report.measure import Subject


def report(
    model: shared.ModelName,
    recipe: shared.Recipe = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", metavar="FILE", help="Text to measure on; left out, the model writes its own."
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", help="The page; its figures go to .json beside it."),
    ] = "report.html",
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Write a page about MODEL: bytes, recall of every estimator, quality against speed, rows per token."""
    page = _checked(Path(output))
    content = None if text is None else read_text(text)
    from shortlist.drawing import check_installed

    check_installed()
    from shortlist.report.measure import measure
    from shortlist.report.page import render

    with ExitStack() as stack:
        subject = _subject(stack, model, recipe, threads)
        with _stages() as progress:
            figures = measure(subject, content, progress=progress)
    html = render(figures)
    write_whole(page.with_suffix(".json"), _json(figures))
    write_whole(page, html)
    if json:
        print_json(figures)
    else:
        print(page)


def _subject(stack: ExitStack, model: str, recipe: str | None, threads: int | None) -> "Subject":
    """Open the model with its recipe, and dense; the stack closes both."""
    from shortlist.checkpoints import open_checkpoint, resolve
    from shortlist.report.measure import Subject

    checkpoint = stack.enter_context(open_checkpoint(resolve(model)))
    options: dict[str, Any] = {"exact": False, "threads": threads}
    loaded = stack.enter_context(load_model(model, head="auto", recipe=recipe, **options))
    dense = loaded
    if loaded.decoder.ffn != "dense" or loaded.decoder.channels_read:
        dense = stack.enter_context(load_model(model, head="dense", ffn="dense", **options))
    return Subject(
        name=Path(model).name,
        checkpoint=checkpoint,
        tokenizer=loaded.tokenizer,
        dense=dense.decoder,
        decoder=loaded.decoder,
        head=loaded.head,
        recipe=loaded.recipe,
        threads=threads,
    )


def _checked(page: Path) -> Path:
    """Check the path of the page before the work begins.

    Raises
    ------
    UsageError
        No file can be written there.
    """
    if page.is_dir():
        raise UsageError(f"{page} is a folder: name a file, such as {page / 'report.html'}")
    if page.suffix == ".json" or not page.name:
        raise UsageError(f"{page} is where the figures would go: name the page, such as report.html")
    if not page.parent.is_dir():
        raise UsageError(f"there is no folder {page.parent} to write {page.name} to: make it first")
    if not os.access(page.parent, os.W_OK):
        raise UsageError(f"the folder {page.parent} cannot be written to: choose another with -o")
    return page


def _json(figures: dict[str, Any]) -> str:
    from json import dumps

    return dumps(figures, indent=1, ensure_ascii=False) + "\n"


@contextmanager
def _stages() -> Iterator[Callable[[str, float], None]]:
    """A progress bar with the present measurement, on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    # The bar takes the rest of a line, so that a narrow terminal shows the whole stage.
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn())
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True, expand=True
    ) as bars:
        task = bars.add_task("", total=1.0)
        yield lambda stage, share: bars.update(task, description=escape(stage), completed=share)
