"""Split GGUF models: all parts open from the first, and what is wrong with them is named."""

from pathlib import Path
from typing import Any

import gguf
import pytest
from builders import tiny_gguf
from raw_gguf import small_llama

from shortlist.checkpoints import open_checkpoint

PARTS = 3


def split(whole: Path, folder: Path, changed: int = 1, **changes: Any) -> list[Path]:
    """Write the parts of a file like `llama-gguf-split`; `changes` are keys of the part `changed`."""
    reader = gguf.GGUFReader(whole)
    folder.mkdir()
    each = -(-len(reader.tensors) // PARTS)
    paths = []
    for i in range(PARTS):
        path = folder / f"m-{i + 1:05d}-of-{PARTS:05d}.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        for field in reader.fields.values() if i == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                kind = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), field.types[0], kind)
        keys = {"split.no": i, "split.count": PARTS, "split.tensors.count": len(reader.tensors)}
        for name, value in (keys | (changes if i == changed else {})).items():
            writer.add_uint16(name, value)
        for tensor in reader.tensors[i * each : (i + 1) * each]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "m.gguf"
    tiny_gguf("llama", path)
    return path


def test_the_parts_are_the_whole(whole: Path, tmp_path: Path):
    first, *_ = split(whole, tmp_path / "parts")
    with open_checkpoint(first) as ours, open_checkpoint(whole) as expected:
        assert ours.config == expected.config
        assert ours.tensors.keys() == expected.tensors.keys()
        for name, tensor in expected.tensors.items():
            assert ours.tensors[name].data.tobytes() == tensor.data.tobytes()
            ours.release(name)
        assert ours.fingerprint != expected.fingerprint


def test_a_folder_with_the_parts_of_one_model(whole: Path, tmp_path: Path):
    first, *_ = split(whole, tmp_path / "parts")
    with open_checkpoint(tmp_path / "parts") as ours, open_checkpoint(first) as expected:
        assert ours.fingerprint == expected.fingerprint


def test_another_part_names_the_first(whole: Path, tmp_path: Path, refused):
    first, second, third = split(whole, tmp_path / "parts")
    refused(second, f"{second} is part 2 of 3 of a model: open {first}")
    refused(third, "is part 3 of 3", str(first))


def test_a_missing_part_is_named(whole: Path, tmp_path: Path, refused):
    first, second, third = split(whole, tmp_path / "parts")
    third.unlink()
    refused(first, "needs m-00003-of-00003.gguf beside it (1 of 3 parts are missing)")
    second.unlink()
    refused(first, "needs m-00002-of-00003.gguf beside it (2 of 3 parts are missing)")


def test_names_must_be_those_of_parts(whole: Path, tmp_path: Path, refused):
    first, second, _ = split(whole, tmp_path / "parts")
    renamed = first.rename(first.with_name("model.gguf"))
    refused(renamed, "is the first of 3 parts, whose names must end in -00001-of-00003.gguf")
    renamed.rename(first.with_name("m-00001-of-00002.gguf"))
    refused(first.with_name("m-00001-of-00002.gguf"), "whose names must end in -00001-of-00003.gguf")
    moved = second.rename(second.with_name("second.gguf"))
    refused(moved, "is part 2 of 3 of a model: open its first part")


@pytest.mark.parametrize("changes", [{"split.no": 2}, {"split.count": 4}], ids=str)
def test_a_part_of_another_model(whole: Path, tmp_path: Path, refused, changes: dict[str, int]):
    first, *_ = split(whole, tmp_path / "parts", **changes)
    refused(first, "m-00002-of-00003.gguf is not part 2 of 3: fetch it again")


def test_a_part_that_contradicts_itself(whole: Path, tmp_path: Path, refused):
    first, *_ = split(whole, tmp_path / "parts", **{"split.no": 3})
    refused(first, "split.no is 3 and split.count 3: fetch it again")


def test_a_tensor_in_two_parts(whole: Path, tmp_path: Path, refused):
    first, _, third = split(whole, tmp_path / "parts")
    third.unlink()
    split(whole, tmp_path / "again", **{"split.no": 2})[1].rename(third)
    refused(first, "m-00003-of-00003.gguf: tensor blk.", "is in another part too: fetch them again")


def test_parts_must_hold_as_many_tensors_as_they_say(whole: Path, tmp_path: Path, refused):
    first, *_ = split(whole, tmp_path / "parts", 0, **{"split.tensors.count": 99})
    refused(first, "its parts hold 21 tensors, but it says 99: fetch them again")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split.count": 5000, "split.no": 0}, "is the first of 5000 parts"),
        ({"split.no": 1}, "split.no is 1 and split.count 0"),
        ({"split.count": 1.5}, "split.count 1.5"),
    ],
)
def test_absurd_counts_are_refused(tmp_path: Path, refused, settings: dict[str, Any], words: str):
    path = tmp_path / "m-00001-of-05000.gguf"
    path.write_bytes(small_llama(settings=settings))
    refused(path, words)


@pytest.mark.parametrize("count", [0, 1])
def test_one_part_is_the_whole(tmp_path: Path, count: int):
    path = tmp_path / "model.gguf"
    path.write_bytes(small_llama(settings={"split.no": 0, "split.count": count}))
    open_checkpoint(path).close()
