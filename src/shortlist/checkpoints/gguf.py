"""Opens GGUF files, the format of llama.cpp."""

from collections.abc import Sequence
from pathlib import Path

from shortlist.checkpoints.base import Checkpoint, StoredTensor, check_tensors, drop_unused
from shortlist.checkpoints.experts import split_experts
from shortlist.checkpoints.fused import split_fused
from shortlist.checkpoints.gguf_header import Header
from shortlist.checkpoints.gguf_metadata import Metadata
from shortlist.checkpoints.gguf_parts import Part, read_parts
from shortlist.checkpoints.mapped import MappedFile
from shortlist.checkpoints.sampling import gguf_sampling
from shortlist.errors import CheckpointError
from shortlist.spec.families import FAMILIES
from shortlist.spec.families.base import Family
from shortlist.spec.gemma3n import split_streams
from shortlist.spec.gguf_config import gguf_config
from shortlist.spec.gguf_keys import GENERAL, TOKENIZER, is_foreign
from shortlist.spec.keys import check_keys
from shortlist.spec.settings import Settings
from shortlist.spec.tensor_names import canonical_gguf_name, gguf_name


def open_gguf(path: Path) -> Checkpoint:
    """Open a GGUF file, or the first of the files of a split model.

    Raises
    ------
    CheckpointError
        The file is damaged, contradicts itself, or holds a model or tensor type that is not supported.
    """
    parts = read_parts(path)
    metadata = parts[0].header.metadata
    family = _family(path, parts[0].header)
    prefix = f"{family.gguf_architecture}."
    tensors, by_stored_name = _tensors(parts, family)
    split_streams(tensors)
    settings = Settings(path, metadata.settings(prefix), prefix)
    notes = _check_other_keys(path, metadata, family) + _windows_left_out(settings, family)
    config = gguf_config(settings, family, tensors)
    tensors.pop("rope_freqs", None)  # they are in config.rope_frequencies
    split_fused(path, config, tensors)
    files = {name: by_stored_name[tensor.name] for name, tensor in tensors.items()}
    tensors, files = split_experts(path, config, tensors, files)
    drop_unused(config, tensors)
    check_tensors(path, config, tensors, lambda name: gguf_name(name, family))
    sampling, more = gguf_sampling(metadata.settings("general.sampling."))
    return Checkpoint(
        path,
        config,
        tensors,
        files,
        headers=[part.file.bytes[: part.header.end] for part in parts],
        tokenizer_source=metadata.with_prefix("tokenizer."),
        sampling_defaults=sampling,
        notes=notes + more,
    )


def _family(path: Path, header: Header) -> Family:
    # Families may share an architecture: llama stands for mistral, too; mixtral is told by its experts.
    by_architecture = {family.gguf_architecture: family for family in reversed(FAMILIES.values())}
    general = Settings(path, header.metadata.settings("general."))
    if (kind := general.get("general.type", "model")) != "model":
        general.fail(
            "general.type", f"is {kind!r:.40}, so it is no model: name the GGUF file of the model itself"
        )
    architecture = general.one_of("general.architecture", by_architecture)
    if header.metadata.settings(f"{architecture}.expert_count").get(f"{architecture}.expert_count"):
        with_experts = [f for f in FAMILIES.values() if f.experts and f.gguf_architecture == architecture]
        return with_experts[0] if with_experts else by_architecture[architecture]
    return by_architecture[architecture]


def _tensors(parts: Sequence[Part], family: Family) -> tuple[dict[str, StoredTensor], dict[str, MappedFile]]:
    """The tensors of all parts by the decoder's names, and the mapped file of each."""
    tensors: dict[str, StoredTensor] = {}
    files: dict[str, MappedFile] = {}
    for file, header in parts:
        for info in header.tensors:
            name = canonical_gguf_name(info.name, family)
            if name is None:
                if info.name.startswith("rope_factors_"):
                    raise CheckpointError(
                        f"{file.path}: tensor {info.name} is of longrope, which is not supported"
                    )
                raise CheckpointError(
                    f"{file.path}: tensor {info.name} is not one of a {family.name} model that is supported"
                )
            if info.name in files:
                raise CheckpointError(
                    f"{file.path}: tensor {info.name} is in another part too: fetch them again"
                )
            tensors[name] = StoredTensor(info.name, info.type, info.shape, file.bytes[info.start : info.end])
            files[info.name] = file
    if "embedding" not in tensors:
        raise CheckpointError(
            f"{parts[0].file.path} lacks the tensor token_embd.weight: fetch it again, or convert it again"
        )
    return tensors, files


def _check_other_keys(path: Path, metadata: Metadata, family: Family) -> list[str]:
    """Check keys outside the architecture's namespace; return a note for each unread namespace."""
    names = [name for name in metadata if not name.startswith(f"{family.gguf_architecture}.")]
    foreign = {name.partition(".")[0] for name in names if is_foreign(name)}
    read = {name: metadata.shown(name) for name in names if not is_foreign(name)}
    check_keys(Settings(path, read), GENERAL | TOKENIZER)
    return [f"keys that start with {name}. are ignored, as llama.cpp does" for name in sorted(foreign)]


def _windows_left_out(settings: Settings, family: Family) -> list[str]:
    key = "attention.sliding_window"
    if family.window_rule == "most" or not settings.get(key, 0):
        return []
    return [
        f"{family.gguf_architecture}.{key} is {settings.get(key)!r:.40} and is not applied: "
        "as in llama.cpp, this architecture has no window"
    ]
