"""Pull, open and read models: GGUF files and Hugging Face folders."""

from pathlib import Path

from shortlist.checkpoints.base import Checkpoint, StoredTensor
from shortlist.checkpoints.gguf import open_gguf

__all__ = ["Checkpoint", "StoredTensor", "open_checkpoint"]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a GGUF file.

    Raises
    ------
    CheckpointError
        It is damaged, contradicts itself, or is of a kind that is not supported.
    """
    return open_gguf(Path(path))
