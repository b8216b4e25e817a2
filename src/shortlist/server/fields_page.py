"""The tables of `docs/requests.md`, which `python -m shortlist.server.fields_page` prints."""

import json
from collections.abc import Iterator

from shortlist.server.formats import ResponseFormat, Schema, StructuredOutputs
from shortlist.server.messages import Called, Message, Part, ToolCall
from shortlist.server.schemas import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    EmbeddingBody,
    ShortlistOptions,
    StreamOptions,
    TokenizeBody,
)
from shortlist.server.tools import Function, Named, NamedChoice, Tool
from shortlist.server.values import Checked

OBJECTS: dict[str, type[Checked]] = {
    "`/v1/chat/completions`": ChatBody,
    "`/v1/completions`": CompletionBody,
    "`/v1/embeddings`": EmbeddingBody,
    "`/tokenize`": TokenizeBody,
    "`/detokenize`": DetokenizeBody,
    "Messages": Message,
    "Parts of `content`": Part,
    "`tool_calls` of messages": ToolCall,
    "`function` of `tool_calls`": Called,
    "`tools`": Tool,
    "`function` of `tools`": Function,
    "`tool_choice`": NamedChoice,
    "`function` of `tool_choice`": Named,
    "`response_format`": ResponseFormat,
    "`json_schema` of `response_format`": Schema,
    "`structured_outputs`": StructuredOutputs,
    "`stream_options`": StreamOptions,
    "`shortlist`": ShortlistOptions,
}


def tables() -> Iterator[str]:
    """A heading and a table for each object."""
    for title, kind in OBJECTS.items():
        yield "\n".join([f"### {title}", "", "| field | | |", "| --- | --- | --- |", *_rows(kind)])


def _rows(kind: type[Checked]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield f"| `{field.alias or name}` | honoured | {field.description or ''} |"
    for name, reason in sorted(kind.lists.harmless.items()):
        yield f"| `{name}` | harmless | {reason} |"
    for name, refused in sorted(kind.lists.refused.items()):
        passes = ", ".join(f"`{json.dumps(value)}`" for value in refused.passes)
        yield f"| `{name}` | refused{f', but for {passes}' if passes else ''} | {refused.reason} |"


if __name__ == "__main__":
    print("\n\n".join(tables()))
