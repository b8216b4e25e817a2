"""`shortlist chat`: talk with a model."""

import sys
from typing import Annotated

import typer

from shortlist.cli import options as shared
from shortlist.cli.conversation import Conversation
from shortlist.cli.line_input import read_message, terminal_reader
from shortlist.cli.loading import load_model
from shortlist.cli.output import print_json, print_stats
from shortlist.engine.options import GenerationOptions
from shortlist.errors import UsageError

HELP = """\
/reset          forget the conversation
/system TEXT    set the system message; without TEXT there is none
/stats          what the latest answer cost
/quit           leave; so does Ctrl-D
Ctrl-C stops an answer. A line that ends in \\ goes on in the next one.
\"\"\" begins and ends a message of many lines."""


def chat(
    model: shared.ModelName,
    system: Annotated[str, typer.Option("--system", help="System message.")] = "",
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "-n", "--max-tokens", help="Most tokens of an answer; by default what the context holds."
        ),
    ] = None,
    temperature: shared.Temperature = shared.DEFAULTS.temperature,
    top_k: shared.TopK = shared.DEFAULTS.top_k,
    top_p: shared.TopP = shared.DEFAULTS.top_p,
    min_p: shared.MinP = shared.DEFAULTS.min_p,
    repetition_penalty: shared.RepetitionPenalty = shared.DEFAULTS.repetition_penalty,
    seed: shared.Seed = shared.DEFAULTS.seed,
    stop: shared.Stop = None,
    head: shared.Head = "auto",
    exact: shared.Exact = False,
    ffn: shared.Ffn = "auto",
    recipe: shared.Recipe = None,
    weights: shared.Weights = None,
    context: shared.Context = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Talk with MODEL. With something piped in, every line is a message."""
    interactive = sys.stdin.isatty() and not json
    options = GenerationOptions(  # before the model is loaded, so that a mistake costs no time
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop or (),
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
        hint=interactive,
    ) as loaded:
        loaded.tokenizer.encode_chat(
            [{"role": "user", "content": "Hi"}]
        )  # a model without template says so now
        conversation = Conversation(loaded, system, **vars(options))
        if interactive:
            print("/help lists the commands.")
        talk(conversation, interactive=interactive, json=json)


def talk(conversation: Conversation, *, interactive: bool, json: bool) -> None:
    """Read messages and answer them until /quit or the end of the input."""
    read_line = terminal_reader()
    while True:
        try:
            message = read_message(read_line)
        except EOFError:
            if interactive:
                print()
            return
        except KeyboardInterrupt:
            if not interactive:
                raise
            print("\n/quit or Ctrl-D leaves.")
            continue
        if message.startswith("/"):
            if message.strip() == "/quit":
                return
            run_slash_command(conversation, message)
        elif message.strip():
            answer(conversation, message, interactive=interactive, json=json)


def answer(conversation: Conversation, message: str, *, interactive: bool, json: bool) -> None:
    """Print the answer to one message as it is generated."""
    try:
        for piece in conversation.answer(message):
            if not json:
                print(piece, end="", flush=True)
    except UsageError as error:
        if not interactive:
            raise
        print(f"shortlist: {error} (/reset starts over)", file=sys.stderr)
        return
    except KeyboardInterrupt:
        if not interactive:
            raise
    finally:
        if not json:
            print(flush=True)
    if json and conversation.latest is not None:
        print_json({"role": "assistant", **conversation.latest.to_dict()})


def run_slash_command(conversation: Conversation, line: str) -> None:
    """Carry out `/reset`, `/system`, `/stats` or `/help`; what they say goes to standard error."""
    command, _, rest = line.strip().partition(" ")
    match command:
        case "/reset":
            conversation.reset()
        case "/system":
            conversation.system = rest.strip()
        case "/stats" if conversation.latest is not None:
            print_stats(conversation.latest.stats, conversation.model.notes)
        case "/stats":
            print("there is no answer yet", file=sys.stderr)
        case "/help":
            print(HELP, file=sys.stderr)
        case _:
            print(f"there is no command {command}: /help lists them", file=sys.stderr)
