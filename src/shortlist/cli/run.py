"""`shortlist run`: continue a prompt."""

from typing import Annotated

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


def run(
    model: shared.ModelName,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help='Text to continue; "-" or nothing reads standard input.'),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("-n", "--max-tokens", help="Most tokens to generate.")
    ] = shared.DEFAULTS.max_tokens,
    temperature: shared.Temperature = None,
    top_k: shared.TopK = None,
    top_p: shared.TopP = None,
    min_p: shared.MinP = None,
    repetition_penalty: shared.RepetitionPenalty = None,
    seed: shared.Seed = None,
    stop: shared.Stop = None,
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
    head: shared.Head = "auto",
    exact: shared.Exact = False,
    ffn: shared.Ffn = "auto",
    recipe: shared.Recipe = None,
    weights: shared.Weights = None,
    context: shared.Context = None,
    threads: shared.Threads = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print speed, bytes read and memory to standard error.")
    ] = False,
    json: shared.Json = False,
) -> None:
    """Write the continuation of PROMPT as it is generated."""
    text = read_prompt(prompt)
    given = given_options(  # checked before the model is loaded, so that a mistake costs no time
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
        logprobs=logprobs,
    )
    options = GenerationOptions(max_tokens=max_tokens, **given)
    refuse_unused(
        "--logprobs", logprobs is not None and not json, "without --json, which prints them: add it"
    )
    refuse_unused_sampling(given, options)
    with load_model(
        model,
        head=head,
        exact=exact,
        ffn=ffn,
        recipe=recipe,
        weights=weights,
        context=context,
        threads=threads,
        hint=not json,
    ) as loaded:
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
        finally:  # an interrupted text keeps what was written so far
            progress.clear()
            if json:
                print_json({"model": model, "notes": notes, **stream.generation.to_dict()})
            else:
                print(flush=True)
            if stats:
                print_stats(stream.generation.stats, loaded.notes)
