"""`shortlist.load`: from a name to a model that is ready to generate."""

from pathlib import Path
from typing import Literal

from shortlist import checkpoints
from shortlist.engine.model import Model
from shortlist.models.decoder import Decoder
from shortlist.models.heads import DenseHead, ExactHead
from shortlist.models.tokenizer import Tokenizer


def load(
    name: str | Path,
    *,
    threads: int | None = None,
    head: Literal["auto", "dense", "estimated", "exact"] = "auto",
    weights: Literal["q8", "q4"] | None = None,
    context: int | None = None,
    recipe: str | Path | None = None,
) -> Model:
    """TODO"""
    with checkpoints.open_checkpoint(checkpoints.resolve(str(name))) as checkpoint:
        decoder = Decoder(checkpoint, weights=weights, threads=threads)
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
    return Model(
        decoder,
        tokenizer,
        DenseHead(decoder.head_rows) if head == "dense" else ExactHead(decoder.head_rows),
        context=context,
    )
