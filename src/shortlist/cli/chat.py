"""`shortlist chat`: talk with a model."""

import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from shortlist.cli import options as shared
from shortlist.cli.conversation import Conversation
from shortlist.cli.line_input import message_reader
from shortlist.cli.loading import load_model
from shortlist.cli.output import print_json, print_stats
from shortlist.cli.sampling import chat_options, describe_sampling, given_options
from shortlist.cli.terminal import PromptProgress, announce_pastes, answer_writer, note, typing_waits
from shortlist.cli.unused import refuse_unused_sampling
from shortlist.errors import UsageError

HELP = """\
/reset          forget the conversation
/system TEXT    set the system message; without TEXT there is none
/stats          what the latest answer cost
/quit           leave; so does Ctrl-D, and Ctrl-C where nothing is typed
Ctrl-C stops an answer. A paste is one message. A line that ends in \\ goes on in the next one.
\"\"\" begins and ends a message of many lines."""


@shared.grouped
def chat(
    model: shared.ModelName,
    *,
    system: Annotated[str, typer.Option("--system", help="System message.")] = "",
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "-n", "--max-tokens", help="Most tokens of an answer; by default what the context holds."
        ),
    ] = None,
    sampling: shared.Sampling,
    loading: shared.Loading,
    json: shared.Json = False,
) -> None:
    """Talk with MODEL. With something piped in, every line is a message."""
    interactive = sys.stdin.isatty() and not json
    # Checked before the model is loaded, so that a mistake costs no time.
    given = given_options(max_tokens=max_tokens, **vars(sampling))
    refuse_unused_sampling(given, chat_options({}, given))
    with load_model(model, **vars(loading), hint=interactive) as loaded:
        options = chat_options(loaded.sampling_defaults, given)
        refuse_unused_sampling(given, options)
        conversation = Conversation(loaded, system, options)
        # Raises at once where a model has no template, or a template without system messages.
        conversation.encode([{"role": "user", "content": "Hi"}])
        if interactive:
            print("/help lists the commands.", file=sys.stderr)
        with typing_waits() if interactive else nullcontext():
            talk(conversation, interactive=interactive, json=json)


def talk(conversation: Conversation, *, interactive: bool, json: bool) -> None:
    """Read messages and answer them until /quit, the end of the input, or Ctrl-C at the prompt."""
    read = message_reader()
    while True:
        try:
            message = read()
        except EOFError:
            return
        if message.startswith("/") and ("\n" not in message or message.startswith("/system ")):
            if message.strip() == "/quit":
                return
            run_slash_command(conversation, message)
        elif message.strip():
            answer(conversation, message, interactive=interactive, json=json)


def answer(conversation: Conversation, message: str, *, interactive: bool, json: bool) -> None:
    """Print the answer to one message as it is generated."""
    write = answer_writer()
    if interactive:
        announce_pastes()
    progress = PromptProgress()
    try:
        pieces = conversation.answer(message, progress)
        if dropped := conversation.dropped:
            note(f"the context is full: the oldest {dropped} of the exchanges so far are forgotten")
        for piece in pieces:
            if not json:
                write(piece)
    except UsageError as error:
        if not interactive:
            raise
        note(f"{error} (/reset starts over)")
        return
    except KeyboardInterrupt:
        if not interactive:
            raise
    finally:
        progress.clear()
        if not json:
            print(flush=True)
    latest = conversation.latest
    if latest is None:
        return
    if json:
        print_json({"role": "assistant", **latest.to_dict(), "dropped_exchanges": conversation.dropped})
    elif latest.finish_reason == "length":
        limit = "-n" if conversation.options.max_tokens else "the context"
        note(f"the answer is cut off: {limit} allows {len(latest.tokens)} tokens")


def run_slash_command(conversation: Conversation, line: str) -> None:
    """Run `/reset`, `/system`, `/stats` or `/help`; their output goes to standard error."""
    command, _, rest = line.strip().partition(" ")
    match command:
        case "/reset":
            conversation.reset()
        case "/system":
            conversation.system = rest.strip()
        case "/stats" if conversation.latest is not None:
            print_stats(conversation.latest.stats, [sampling_of(conversation), *conversation.model.notes])
        case "/stats":
            print("there is no answer yet", file=sys.stderr)
        case "/help":
            print(f"{HELP}\n{sampling_of(conversation)}", file=sys.stderr)
        case _:
            print(f"there is no command {command}: /help lists them", file=sys.stderr)


def sampling_of(conversation: Conversation) -> str:
    """The sampling options of the answers, in one line."""
    return describe_sampling(conversation.options, conversation.model.sampling_defaults)
