"""Converts a model to an engine's own format, once, in the cache folder.

Converters hold the whole model in memory. They run in separate processes, so that they do not add to the
peak memory that is reported for an engine.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from shortlist.checkpoints import open_checkpoint
from shortlist.paths import cache_folder
from shortlist.peers.base import PeerError


def converted(path: Path, kind: str, command: Callable[[Path, Path], list[str]]) -> Path:
    """The folder of the model at `path` in the format `kind`; converted if the cache does not hold it.

    Parameters
    ----------
    command
        Takes a Hugging Face folder in float32 and the folder to write; returns the arguments of `python`.

    Raises
    ------
    PeerError
        The converter failed; the message holds its last line.
    """
    with open_checkpoint(path) as checkpoint:
        folder = cache_folder() / "peers" / f"{kind}-{checkpoint.fingerprint[:16]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as work:
        source, target = Path(work, "float32"), Path(work, "converted")
        _run(["-m", __name__, str(path), str(source)], kind)
        _run(command(source, target), kind)
        target.rename(folder)
    return folder


def _run(arguments: list[str], kind: str) -> None:
    process = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if process.returncode != 0:
        lines = (process.stderr.strip() or process.stdout.strip() or "it said nothing").splitlines()
        raise PeerError(f"the model cannot be converted to {kind}: {lines[-1]}")


def _write_float32(path: Path, folder: Path) -> None:
    import transformers

    from shortlist.torch.float32 import load_float32

    model = load_float32(path)
    # A model from a GGUF file still counts as quantized, and transformers saves no such model.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    source, file = (path, None) if path.is_dir() else (path.parent, path.name)
    transformers.AutoTokenizer.from_pretrained(source, gguf_file=file).save_pretrained(folder)


if __name__ == "__main__":
    _write_float32(Path(sys.argv[1]), Path(sys.argv[2]))
