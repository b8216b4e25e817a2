"""The parts of a split GGUF model (`llama-gguf-split`), each a GGUF file with some of the tensors."""

import re
from pathlib import Path
from typing import NamedTuple

from shortlist.checkpoints.gguf_header import Header, read_header
from shortlist.checkpoints.mapped import MappedFile
from shortlist.errors import CheckpointError

_MOST_PARTS = 1 << 12
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


class Part(NamedTuple):
    """One file of a model, and its header."""

    file: MappedFile
    header: Header


def read_parts(path: Path) -> list[Part]:
    """Map all files of the model whose first file is at `path`; most models have only one.

    Raises
    ------
    CheckpointError
        A file is missing or damaged, its part number contradicts its name, or `path` is not the first part.
    """
    first = _read(path)
    number, count = _split(first)
    if count <= 1:
        return [first]
    name = _NAME.fullmatch(path.name)
    if number:
        start = path.with_name(f"{name[1]}-00001-of-{count:05d}.gguf") if name else "its first part"
        raise CheckpointError(f"{path} is part {number + 1} of {count} of a model: open {start}")
    if count > _MOST_PARTS or name is None or int(name[2]) != 1 or int(name[3]) != count:
        raise CheckpointError(
            f"{path} is the first of {count} parts, whose names must end in -00001-of-{count:05d}.gguf and "
            "so on: give them back the names that they were made with"
        )
    paths = [path.with_name(each) for each in part_names(path.name)]
    if missing := [each.name for each in paths if not each.exists()]:
        raise CheckpointError(
            f"{path} needs {missing[0]} beside it ({len(missing)} of {count} parts are missing): "
            "fetch them too"
        )
    parts = [first, *map(_read, paths[1:])]
    for i, part in enumerate(parts):
        if _split(part) != (i, count):
            raise CheckpointError(f"{part.file.path} is not part {i + 1} of {count}: fetch it again")
    tensors = sum(len(part.header.tensors) for part in parts)
    stated = first.header.metadata.settings("split.").get("split.tensors.count", tensors)
    if stated != tensors:
        raise CheckpointError(
            f"{path}: its parts hold {tensors} tensors, but it says {stated!r:.20}: fetch them again"
        )
    return parts


def part_names(first: str) -> list[str]:
    """The names of all parts of the model whose first file has this name; for an unsplit model only it."""
    name = _NAME.fullmatch(first)
    if name is None or int(name[2]) != 1 or int(name[3]) > _MOST_PARTS:
        return [first]
    return [f"{name[1]}-{i + 1:05d}-of-{name[3]}.gguf" for i in range(int(name[3]))]


def is_later_part(path: Path) -> bool:
    """Whether a file's name says that it is a later part of a model."""
    name = _NAME.fullmatch(path.name)
    return name is not None and int(name[2]) > 1


def _read(path: Path) -> Part:
    file = MappedFile(path)
    return Part(file, read_header(file))


def _split(part: Part) -> tuple[int, int]:
    """The number of a part, from 0, and the number of parts."""
    settings = part.header.metadata.settings("split.")
    number, count = settings.get("split.no", 0), settings.get("split.count", 0)
    if type(number) is not int or type(count) is not int or not 0 <= number < max(count, 1):
        raise CheckpointError(
            f"{part.file.path}: split.no is {number!r:.20} and split.count {count!r:.20}: fetch it again"
        )
    return number, count
