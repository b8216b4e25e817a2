"""Opens GGUF files, the format of llama.cpp."""

from pathlib import Path

from shortlist.checkpoints.base import Checkpoint, MappedFile, StoredTensor, check_tensors, drop_unused
from shortlist.checkpoints.experts import split_experts
from shortlist.checkpoints.gemma3n import split_streams
from shortlist.checkpoints.gguf_config import gguf_config
from shortlist.checkpoints.gguf_header import Header, read_header
from shortlist.checkpoints.sampling import gguf_sampling
from shortlist.checkpoints.settings import Settings
from shortlist.errors import CheckpointError
from shortlist.models.families import FAMILIES, Family, canonical_gguf_name


def open_gguf(path: Path) -> Checkpoint:
    """Open a GGUF file.

    Raises
    ------
    CheckpointError
        The file is damaged, contradicts itself, or holds a model or tensor type that is not supported.
    """
    file = MappedFile(path)
    header = read_header(file)
    family = _family(path, header)
    prefix = f"{family.gguf_architecture}."
    tensors = _tensors(file, header, family)
    split_streams(tensors)
    config = gguf_config(Settings(path, header.metadata.settings(prefix), prefix), family, tensors)
    tensors.pop("rope_freqs", None)  # config.rope_frequencies has them now
    tensors, files = split_experts(path, config, tensors, dict.fromkeys(tensors, file))
    drop_unused(config, tensors)
    check_tensors(path, config, tensors)
    sampling, notes = gguf_sampling(header.metadata.settings("general.sampling."))
    return Checkpoint(
        path,
        config,
        tensors,
        files,
        headers=[file.bytes[: header.end]],
        tokenizer_source=header.metadata.with_prefix("tokenizer."),
        sampling_defaults=sampling,
        notes=notes,
    )


def _family(path: Path, header: Header) -> Family:
    # Of two families with one architecture (llama, mistral) the first stands for both, but for the one with
    # experts (mixtral).
    by_architecture = {family.gguf_architecture: family for family in reversed(FAMILIES.values())}
    general = Settings(path, header.metadata.settings("general."))
    architecture = general.one_of("general.architecture", by_architecture)
    if header.metadata.settings(f"{architecture}.expert_count").get(f"{architecture}.expert_count"):
        with_experts = [f for f in FAMILIES.values() if f.experts and f.gguf_architecture == architecture]
        return with_experts[0] if with_experts else by_architecture[architecture]
    return by_architecture[architecture]


def _tensors(file: MappedFile, header: Header, family: Family) -> dict[str, StoredTensor]:
    tensors = {}
    for info in header.tensors:
        name = canonical_gguf_name(info.name)
        if name is None:
            raise CheckpointError(
                f"{file.path}: tensor {info.name} does not belong to a {family.name} model that is supported "
                "(adapters are not)"
            )
        tensors[name] = StoredTensor(info.name, info.type, info.shape, file.bytes[info.start : info.end])
    if "embedding" not in tensors:
        raise CheckpointError(
            f"{file.path} lacks the tensor token_embd.weight: fetch it again, or convert it again"
        )
    return tensors
