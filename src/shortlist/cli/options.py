"""Arguments and options that several commands share, with the defaults of `GenerationOptions`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, Literal, get_type_hints

import typer

from shortlist.engine.options import GenerationOptions

DEFAULTS = GenerationOptions()

HeadName = Literal["auto", "dense", "estimated", "exact"]
FfnName = Literal["auto", "dense", "estimated", "exact"]

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A name that was pulled, a GGUF file, a Hugging Face folder, or hf:owner/repo."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

Head = Annotated[
    HeadName,
    typer.Option(
        "--head",
        help="How the language-model head is read: all rows, the rows that an estimate leaves, "
        "or those that provably suffice.",
    ),
]
Exact = Annotated[bool, typer.Option("--exact", help="The same as --head exact.")]
Ffn = Annotated[
    FfnName,
    typer.Option(
        "--ffn",
        help="How feed-forward layers are read: all neurons or, where the activation has exact zeros, those "
        "that fire, or those that 4-bit copies of the gates leave.",
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="FOLDER", help="A recipe, as tune writes it."),
]
Weights = Annotated[
    Literal["q8", "q4"] | None,
    typer.Option("--weights", help="Quantize a float checkpoint to 8 or 4 bits while loading."),
]
Context = Annotated[
    int | None,
    typer.Option("--context", metavar="TOKENS", help="Most tokens of prompt and answer together."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; all cores by default.")]

# None: not given. Then `run` is greedy and keeps all tokens, and `chat` follows the model's files.
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="Divides the logits; 0 is greedy: the likeliest token.")
]
TopK = Annotated[int | None, typer.Option("--top-k", help="Keep the K likeliest tokens; 0 keeps all.")]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", help="Keep the likeliest tokens that hold this probability; 1 keeps all."),
]
MinP = Annotated[
    float | None,
    typer.Option("--min-p", help="Keep tokens at least this share as likely as the likeliest; 0 keeps all."),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty", help="Above 1 makes tokens of the text so far less likely; 1 does nothing."
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Same seed, same text.")]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="End the text before this string; may be repeated."),
]


@dataclass(frozen=True)
class Loading:
    """Options for loading a model, those of `shortlist.load`."""

    head: Head = "auto"
    exact: Exact = False
    ffn: Ffn = "auto"
    recipe: Recipe = None
    weights: Weights = None
    context: Context = None
    threads: Threads = None


@dataclass(frozen=True)
class Sampling:
    """Options for choosing tokens, those of `GenerationOptions`."""

    temperature: Temperature = None
    top_k: TopK = None
    top_p: TopP = None
    min_p: MinP = None
    repetition_penalty: RepetitionPenalty = None
    seed: Seed = None
    stop: Stop = None


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take groups of options: a parameter of a dataclass type is replaced by its fields.

    The command line has the fields instead of the parameter, and the command gets the dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        options = [parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY)]
        if group := groups.get(parameter.name):
            types = get_type_hints(group, include_extras=True)
            options = [
                inspect.Parameter(
                    field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
                )
                for field in fields(group)
            ]
        parameters += options

    @wraps(command)
    def flat(**given: Any) -> Any:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        return command(**given)

    del flat.__wrapped__  # typer would read the signature of the wrapped function
    flat.__annotations__ = {each.name: each.annotation for each in parameters}
    flat.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    return flat
