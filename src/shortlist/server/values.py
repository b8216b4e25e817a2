"""Reads values in the forms that clients use: 3.0 for an integer, one text in place of a list."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shortlist.server.fields import Lists

MAX_PROMPTS = 2048
"""Largest number of texts in one request, OpenAI's limit for embeddings."""

MAX_STOPS = 1024
MAX_STOP_CHARACTERS = 1 << 14
"""Largest total length of stop strings; matching takes some hundred bytes of memory per character."""
GREATEST_SEED = 2**64


class Checked(BaseModel):
    """An object of a request. A field that it does not declare is in its lists, or unknown.

    Attributes
    ----------
    lists : Lists
    what : str
        Name of the object in messages; empty for a body.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    lists: ClassVar[Lists] = Lists()
    what: ClassVar[str] = ""

    @classmethod
    def honoured(cls) -> set[str]:
        """Names of the honoured fields, as clients spell them."""
        return {field.alias or name for name, field in cls.model_fields.items()}

    @model_validator(mode="before")
    @classmethod
    def _only_honoured(cls, given: Any) -> Any:
        return cls.lists.honoured(given, cls.honoured(), cls.what) if isinstance(given, Mapping) else given


def whole(value: Any) -> Any:
    """Convert a number without a fraction to an integer; some clients write all numbers with a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]
Token = Annotated[Whole, Field(ge=0, lt=2**31)]


def invalid(message: str) -> PydanticCustomError:
    """The error for a wrong value. Braces are escaped, as pydantic takes the message for a template."""
    return PydanticCustomError("invalid_value", "{message}", {"message": message})


def texts_or_tokens(given: Any) -> list[str | list[int]]:
    """The texts of a request: one or several, each given as text or as tokens.

    Raises
    ------
    PydanticCustomError
        An item is neither; the message names the first one.
    """
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        raise invalid("should be a text, a list of texts, a list of tokens or a list of lists of tokens")
    if not given:
        raise invalid("is an empty list: give a text at least")
    if isinstance(given[0], int | float):
        return [_tokens(given, "")]
    if len(given) > MAX_PROMPTS:
        raise invalid(f"holds {len(given)} texts: at most {MAX_PROMPTS} are taken at once")
    texts: list[str | list[int]] = []
    for index, each in enumerate(given):
        if not isinstance(each, str if isinstance(given[0], str) else list):
            raise invalid(
                f"[{index}] is not what the first one is: give all as text, or all as lists of tokens"
            )
        texts.append(each if isinstance(each, str) else _tokens(each, f"[{index}]"))
    return texts


def _tokens(given: list[Any], where: str) -> list[int]:
    if not given:
        raise invalid(f"{where} is an empty list of tokens: give one at least")
    tokens = [whole(token) for token in given]
    for index, token in enumerate(tokens):
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < 2**31:
            raise invalid(f"{where}[{index}] is not a token: tokens are whole numbers from 0")
    return tokens


def stop_strings(given: Any) -> list[str]:
    """The stop strings of a request; an empty string has no effect, as in llama-server."""
    stops = [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise invalid("should be a text or a list of texts")
    if len(stops) > MAX_STOPS:
        raise invalid(f"holds {len(stops)} texts: at most {MAX_STOPS} are taken")
    if (length := sum(map(len, stops))) > MAX_STOP_CHARACTERS:
        raise invalid(f"holds {length} characters: at most {MAX_STOP_CHARACTERS} are taken")
    return [stop for stop in stops if stop]


_TOKENS = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**31},
}
_MANY = {"type": "array", "minItems": 1, "maxItems": MAX_PROMPTS}

TextsOrTokens = Annotated[
    list[str | list[int]],
    PlainValidator(texts_or_tokens),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {**_MANY, "items": {"type": "string"}},
                _TOKENS,
                {**_MANY, "items": _TOKENS},
            ]
        }
    ),
]

Stops = Annotated[
    list[str] | None,
    PlainValidator(lambda given: None if given is None else stop_strings(given)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "maxItems": MAX_STOPS},
                {"type": "null"},
            ]
        }
    ),
]
