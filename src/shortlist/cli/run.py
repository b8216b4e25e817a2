"""`shortlist run`: continue a prompt."""

from typing import Annotated

import typer

from shortlist.cli import options as shared
from shortlist.cli.loading import load_model
from shortlist.cli.output import print_json, print_stats
from shortlist.cli.text_input import read_prompt
from shortlist.engine.options import GenerationOptions


def run(
    model: shared.ModelName,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help='Text to continue; "-" or nothing reads standard input.'),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("-n", "--max-tokens", help="Most tokens to generate.")
    ] = shared.DEFAULTS.max_tokens,
    temperature: shared.Temperature = shared.DEFAULTS.temperature,
    top_k: shared.TopK = shared.DEFAULTS.top_k,
    top_p: shared.TopP = shared.DEFAULTS.top_p,
    min_p: shared.MinP = shared.DEFAULTS.min_p,
    repetition_penalty: shared.RepetitionPenalty = shared.DEFAULTS.repetition_penalty,
    seed: shared.Seed = shared.DEFAULTS.seed,
    stop: shared.Stop = None,
    logprobs: Annotated[
        int | None,
        typer.Option(
            "--logprobs", help="With --json: log-probabilities, with this many of the likeliest tokens."
        ),
    ] = shared.DEFAULTS.logprobs,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put the prompt into the model's chat template.")
    ] = False,
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
    options = GenerationOptions(  # before the model is loaded, so that a mistake costs no time
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop or (),
        logprobs=logprobs,
    )
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
        stream = loaded.stream(
            loaded.tokenizer.encode_chat([{"role": "user", "content": text}]) if chat else text,
            **vars(options),
        )
        try:
            for piece in stream:
                if not json:
                    print(piece, end="", flush=True)
        finally:  # an interrupted text keeps what was written so far
            if json:
                print_json({"model": model, "notes": loaded.notes, **stream.generation.to_dict()})
            else:
                print(flush=True)
            if stats:
                print_stats(stream.generation.stats, loaded.notes)
