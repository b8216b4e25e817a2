"""Fetches, opens and reads models: GGUF files and Hugging Face folders."""

from pathlib import Path

from shortlist.checkpoints.base import Checkpoint, StoredTensor
from shortlist.checkpoints.gguf import open_gguf
from shortlist.checkpoints.store import pull, resolve
from shortlist.errors import CheckpointError

_OF_FOLDERS = (".safetensors", ".json", ".bin", ".pt", ".pth")

__all__ = ["Checkpoint", "StoredTensor", "open_checkpoint", "pull", "resolve"]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a GGUF file, a folder with a GGUF file, or a Hugging Face folder.

    Weights are read from the file on access.

    Raises
    ------
    CheckpointError
        The model is missing or damaged, contradicts itself, or is of a kind that is not supported.
    """
    path = Path(path)
    if path.is_dir():  # imported only for folders
        from shortlist.checkpoints.folders import gguf_in
        from shortlist.checkpoints.safetensors import open_folder

        file = gguf_in(path)
        return open_gguf(file) if file else open_folder(path)
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist: name a GGUF file, a Hugging Face folder or a model that was pulled"
        )
    if path.suffix in _OF_FOLDERS:
        raise CheckpointError(f"{path} is a part of a Hugging Face folder: name the folder, {path.parent}")
    return open_gguf(path)
