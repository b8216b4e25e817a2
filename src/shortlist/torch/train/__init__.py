"""Trains small decoders, dense or with experts, on text files. Needs `shortlist[torch]`.

>>> from shortlist.torch import train as training
>>> run = training.train("examples/train.toml", "runs/first")
>>> run.validation_loss, run.model, run.folder
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shortlist.torch.train.config import Config, read_config
    from shortlist.torch.train.plots import draw_plots
    from shortlist.torch.train.result import Run
    from shortlist.torch.train.run import load_run, resume, train

__all__ = ["Config", "Run", "draw_plots", "load_run", "read_config", "resume", "train"]

# Imported at first use: a configuration is read and checked without PyTorch.
_HOMES = {
    "Config": "config",
    "Run": "result",
    "draw_plots": "plots",
    "load_run": "run",
    "read_config": "config",
    "resume": "run",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shortlist.torch.train' has no attribute {name!r}")
    return getattr(import_module(f"shortlist.torch.train.{_HOMES[name]}"), name)
