"""Opens GGUF files, the format of llama.cpp."""

from pathlib import Path

from shortlist.checkpoints.base import Checkpoint, MappedFile, StoredTensor, check_tensors
from shortlist.checkpoints.gemma3n import split_streams
from shortlist.checkpoints.gguf_config import gguf_config
from shortlist.checkpoints.gguf_header import Header, read_header
from shortlist.checkpoints.settings import Settings
from shortlist.errors import CheckpointError
from shortlist.models.families import FAMILIES, Family, canonical_gguf_name, unused_tensors


def open_gguf(path: Path) -> Checkpoint:
    """Open a GGUF file.

    Raises
    ------
    CheckpointError
        The file is damaged, contradicts itself, or holds a model or tensor type that is not supported.
    """
    file = MappedFile(path)
    header = read_header(file)
    family = _family(Settings(path, header.metadata.settings("general.")))
    prefix = f"{family.gguf_architecture}."
    tensors = _tensors(file, header, family)
    split_streams(tensors)
    config = gguf_config(Settings(path, header.metadata.settings(prefix), prefix), family, tensors)
    tensors.pop("rope_freqs", None)  # config.rope_frequencies has them now
    for name in unused_tensors(config):
        tensors.pop(name, None)
    check_tensors(path, config, tensors)
    return Checkpoint(
        path,
        config,
        tensors,
        files=dict.fromkeys(tensors, file),
        headers=[file.bytes[: header.end]],
        tokenizer_source=header.metadata.with_prefix("tokenizer."),
    )


def _family(general: Settings) -> Family:
    # Of two families with one architecture (llama, mistral) the first stands for both.
    by_architecture = {family.gguf_architecture: family for family in reversed(FAMILIES.values())}
    return by_architecture[general.one_of("general.architecture", by_architecture)]


def _tensors(file: MappedFile, header: Header, family: Family) -> dict[str, StoredTensor]:
    tensors = {}
    for info in header.tensors:
        name = canonical_gguf_name(info.name)
        if name is None:
            raise CheckpointError(
                f"{file.path}: tensor {info.name} does not belong to a {family.name} model that is supported "
                "(mixtures of experts and adapters are not)"
            )
        tensors[name] = StoredTensor(info.name, info.type, info.shape, file.bytes[info.start : info.end])
    if "embedding" not in tensors:
        raise CheckpointError(
            f"{file.path} lacks the tensor token_embd.weight: fetch it again, or convert it again"
        )
    return tensors
