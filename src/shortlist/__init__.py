"""Run language models that read only the weights the next token needs.

>>> import shortlist
>>> with shortlist.load("gemma-3-270m") as model:
...     for piece in model.stream("The capital of France is", max_tokens=20):
...         print(piece, end="", flush=True)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shortlist.checkpoints import pull
    from shortlist.engine.constraints import JsonSchema, Regex
    from shortlist.engine.generation import Generation, Stream
    from shortlist.engine.load import load
    from shortlist.engine.model import Model
    from shortlist.engine.options import GenerationOptions
    from shortlist.errors import CheckpointError, DownloadError, RecipeError, ShortlistError, UsageError

__version__: str

__all__ = [
    "CheckpointError",
    "DownloadError",
    "Generation",
    "GenerationOptions",
    "JsonSchema",
    "Model",
    "RecipeError",
    "Regex",
    "ShortlistError",
    "Stream",
    "UsageError",
    "__version__",
    "load",
    "pull",
]

# Imported when first used: `shortlist --help` needs neither NumPy nor the native module.
_HOMES = {
    "CheckpointError": "errors",
    "DownloadError": "errors",
    "Generation": "engine.generation",
    "GenerationOptions": "engine.options",
    "JsonSchema": "engine.constraints",
    "Model": "engine.model",
    "RecipeError": "errors",
    "Regex": "engine.constraints",
    "ShortlistError": "errors",
    "Stream": "engine.generation",
    "UsageError": "errors",
    "load": "engine.load",
    "pull": "checkpoints",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("shortlist")
    if name not in _HOMES:
        raise AttributeError(f"module 'shortlist' has no attribute {name!r}")
    return getattr(import_module(f"shortlist.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
