"""`shortlist pull`: fetch a model into the cache."""

from typing import Annotated

import typer

from shortlist.cli.fit import fitted
from shortlist.cli.options import Json
from shortlist.cli.output import print_json


def pull(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="smollm2-135m, gemma-3-270m, or hf:owner/repo[:file].")
    ],
    fit: Annotated[
        bool, typer.Option("--fit", help="Also fit its estimated head, unless that was done: about a minute.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch a model into the cache and print where it is."""
    from shortlist import checkpoints

    path = checkpoints.pull(name, progress=not json)
    recipe = fitted(name) if fit else None
    if json:
        print_json({"model": name, "path": str(path), **({"recipe": recipe.summary()} if recipe else {})})
    else:
        print(path)
