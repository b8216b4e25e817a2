"""The tokenizer of a run: a model's own, or a small byte-level BPE trained on the text."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shortlist import checkpoints
from shortlist.checkpoints import open_checkpoint
from shortlist.errors import UsageError
from shortlist.model.tokenizer.folder import read_folder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.paths import write_whole
from shortlist.torch.train.config import DataConfig

END = "<|endoftext|>"
"""The token after each text, in a tokenizer that is trained here."""

_FILES = ("tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt", "chat_template*")


def prepare_tokenizer(data: DataConfig, texts: Sequence[str], folder: Path) -> Tokenizer:
    """The tokenizer of a run's folder; the first call writes its files there.

    Raises
    ------
    UsageError, CheckpointError
        The named model does not exist, or its tokenizer cannot be read.
    """
    if not (folder / "tokenizer.json").exists():
        if data.tokenizer is None:
            _train(texts, data.vocabulary, folder)
        else:
            _take(checkpoints.resolve(data.tokenizer), folder)
    return Tokenizer(read_folder(folder), str(folder))


def end_of_text(tokenizer: Tokenizer) -> int | None:
    """The token after each text."""
    return min(tokenizer.eos_ids, default=None)


def _train(texts: Sequence[str], vocabulary: int, folder: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    write_whole(folder / "tokenizer_config.json", json.dumps(settings, indent=1))
    write_whole(folder / "tokenizer.json", backend.to_str())


def _take(source: Path, folder: Path) -> None:
    """Copy a Hugging Face folder's tokenizer, or have `transformers` convert that of a GGUF file."""
    with TemporaryDirectory(dir=folder) as name:
        staging = Path(name)
        if source.is_dir():
            read_folder(source)  # raises an error that names the fault
            for pattern in _FILES:
                for file in source.glob(pattern):
                    shutil.copy(file, staging)
        else:
            _converted(source).save_pretrained(staging)
            read_folder(staging)
        # The file whose existence is checked is moved last: once it exists, all files do.
        for file in sorted(staging.iterdir(), key=lambda file: file.name == "tokenizer.json"):
            file.replace(folder / file.name)


def _converted(file: Path) -> Any:
    """The tokenizer of a GGUF file, converted by `transformers`."""
    from transformers import AutoTokenizer

    with open_checkpoint(file):
        pass  # raises an error that names the fault
    try:
        return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(
            f"transformers cannot read the tokenizer of {file} ({error}): name another"
        ) from None
