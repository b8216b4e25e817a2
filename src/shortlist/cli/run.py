"""`shortlist run`: continue a prompt."""

from typing import Annotated, Any

import typer

from shortlist.cli import options as shared
from shortlist.cli.loading import load_model
from shortlist.cli.output import print_json, print_stats
from shortlist.cli.sampling import given_options
from shortlist.cli.terminal import PromptProgress, note
from shortlist.cli.text_input import read_prompt
from shortlist.cli.unused import refuse_unused, refuse_unused_sampling
from shortlist.engine.options import GenerationOptions

CHAT_HINT = "--chat answers it as a message, --no-chat says that this is meant"


@shared.grouped
def run(
    model: shared.ModelName,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help='Text to continue; "-" or nothing reads standard input.'),
    ] = None,
    *,
    max_tokens: Annotated[
        int | None, typer.Option("-n", "--max-tokens", help="Most tokens to generate.")
    ] = shared.DEFAULTS.max_tokens,
    sampling: shared.Sampling,
    logprobs: Annotated[
        int | None,
        typer.Option(
            "--logprobs", help="With --json: log-probabilities, with this many of the likeliest tokens."
        ),
    ] = shared.DEFAULTS.logprobs,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat", help="Put the prompt into the model's chat template, or continue it as it is."
        ),
    ] = None,
    loading: shared.Loading,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print speed, bytes read and memory to standard error.")
    ] = False,
    json: shared.Json = False,
) -> None:
    """Write the continuation of PROMPT as it is generated."""
    text = read_prompt(prompt)
    # Checked before the model is loaded, so that a mistake costs no time.
    given = given_options(**vars(sampling), logprobs=logprobs)
    options = GenerationOptions(max_tokens=max_tokens, **given)
    refuse_unused(
        "--logprobs", logprobs is not None and not json, "without --json, which prints them: add it"
    )
    refuse_unused_sampling(given, options)
    with load_model(model, **vars(loading), hint=not json) as loaded:
        notes = list(loaded.notes)
        if chat is None and loaded.tokenizer.chat_template is not None:
            notes.append(f"{model} has a chat template, and the prompt is continued without it: {CHAT_HINT}")
        progress = PromptProgress()
        stream = loaded.stream(
            loaded.tokenizer.encode_chat([{"role": "user", "content": text}]) if chat else text,
            options,
            on_prompt=progress,
        )
        if not json:
            for hint in notes[len(loaded.notes) :]:
                note(hint)
        try:
            for piece in stream:
                if not json:
                    print(piece, end="", flush=True)
        finally:  # an interrupted text keeps its written part
            progress.clear()
            _end({"model": model, "notes": notes, **stream.generation.to_dict()} if json else None)
            if stats:
                print_stats(stream.generation.stats, loaded.notes)


def _end(document: dict[str, Any] | None) -> None:
    """Print the end of the output: the JSON document with `--json`, else a newline."""
    if document is None:
        print(flush=True)
    else:
        print_json(document)
