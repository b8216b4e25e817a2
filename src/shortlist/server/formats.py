"""Constraints on answers, in each form in which clients ask for them."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from shortlist.engine.constraints import Constraint, JsonSchema, Regex
from shortlist.server import field_lists
from shortlist.server.errors import ApiError
from shortlist.server.values import Checked

ANY_OBJECT = {"type": "object"}


class Schema(Checked):
    """A JSON schema with its name, in OpenAI's form."""

    lists: ClassVar = field_lists.JSON_SCHEMA
    what: ClassVar = "response_format.json_schema"

    name: str | None = None
    definition: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Checked):
    """The form of the answer: any text, a JSON object, JSON of a schema, or a match of an expression."""

    lists: ClassVar = field_lists.RESPONSE_FORMAT
    what: ClassVar = "response_format"

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: Schema | None = None
    definition: dict[str, Any] | None = Field(None, alias="schema", description="As llama-server has it.")
    regex: str | None = None

    def constraint(self) -> Constraint | None:
        """The constraint for this format.

        Raises
        ------
        ApiError
            A field is missing, or belongs to another type.
        """
        schema = self.json_schema.definition if self.json_schema else self.definition
        if self.json_schema and self.definition is not None:
            raise _wrong("response_format has json_schema and schema: send one of them")
        if schema is not None and self.type not in ("json_object", "json_schema"):
            raise _wrong(f"response_format of type {self.type} has a schema: use type json_schema")
        if self.regex is not None and self.type != "regex":
            raise _wrong(f"response_format of type {self.type} has a regex: use type regex")
        match self.type:
            case "text":
                return None
            case "json_object":
                return JsonSchema(ANY_OBJECT if schema is None else schema)
            case "json_schema" if schema is not None:
                return JsonSchema(schema)
            case "regex" if self.regex is not None:
                return Regex(self.regex)
            case kind:
                raise _wrong(f"response_format of type {kind} needs a field {kind}")


class StructuredOutputs(Checked):
    """The form of the answer in vLLM's fields, of which one may be set."""

    lists: ClassVar = field_lists.STRUCTURED_OUTPUTS
    what: ClassVar = "structured_outputs"

    definition: dict[str, Any] | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = Field(None, min_length=1)
    json_object: bool | None = None

    def constraints(self) -> list[Constraint]:
        """The constraints of the fields that are set."""
        found = constraints(self.definition, self.regex, self.choice)
        return [*found, JsonSchema(ANY_OBJECT)] if self.json_object else found


def constraints(
    definition: Mapping[str, Any] | str | None, regex: str | None, choice: Sequence[str] | None
) -> list[Constraint]:
    """The constraints for a schema, an expression and a list of permitted texts; null means none."""
    found: list[Constraint] = []
    if definition is not None:
        found.append(JsonSchema(_parsed(definition) if isinstance(definition, str) else definition))
    if regex is not None:
        found.append(Regex(regex))
    if choice is not None:
        found.append(Regex("|".join(f"(?:{re.escape(text)})" for text in choice)))
    return found


def _parsed(definition: str) -> dict[str, Any]:
    try:
        schema = json.loads(definition)
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise _wrong("the JSON schema is a text that is no JSON object: send the object itself")
    return schema


def _wrong(message: str) -> ApiError:
    return ApiError(400, message, param="response_format", code="invalid_value")
