"""Models from a Hub that runs on this machine: files, folders, and everything that it may refuse."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import hub_server
from huggingface_hub import constants
from raw_gguf import small_llama

from shortlist.checkpoints import open_checkpoint, pull, resolve
from shortlist.checkpoints.hub import parse
from shortlist.errors import CheckpointError, DownloadError, UsageError
from shortlist.paths import HOME_VARIABLE

GGUF = small_llama()
REPOSITORIES = {
    "owner/one": {"README.md": b"hello", "one.gguf": GGUF},
    "owner/two": {"a.gguf": GGUF, "sub/b.gguf": GGUF},
    "owner/none": {"model.onnx": b"?"},
    "owner/folder": {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"pickle",
        "tokenizer.json": b"{}",
    },
    "owner/split": {f"sub/m-{i:05d}-of-00003.gguf": b"part %d" % i for i in (1, 2, 3)},
    "owner/lost": {"m-00001-of-00002.gguf": b"part 1"},
    "owner/adapter": {"adapter_config.json": b"{}", "adapter_model.safetensors": b"?"},
    "owner/gated": {"one.gguf": GGUF},
    "owner/broken": {"one.gguf": GGUF},
    "owner/cut": {"one.gguf": GGUF},
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with hub_server(REPOSITORIES) as address:
        yield address


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def hub(address: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder. The library, which reads HF_ENDPOINT on import, now talks to the stand-in."""
    _talk_to(address, monkeypatch)
    return home


def _talk_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def pulled(name: str) -> Path:
    path = pull(name, progress=False)
    assert resolve(name) == path
    return path


@pytest.mark.parametrize(
    "name", ["hf:owner/one", "hf:owner/one:one.gguf", "hf:owner/two:a.gguf", "hf:owner/two:sub/b.gguf"]
)
def test_a_gguf_file(hub: Path, name: str):
    path = pulled(name)
    assert hub in path.parents
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config.family == "llama"


@pytest.mark.parametrize("name", ["hf:owner/split", "hf:owner/split:sub/m-00001-of-00003.gguf"])
def test_all_parts_of_a_split_model(hub: Path, name: str):
    path = pulled(name)
    assert path.name == "m-00001-of-00003.gguf"
    assert [path.with_name(f"m-{i:05d}-of-00003.gguf").read_bytes() for i in (1, 2, 3)] == [
        b"part 1",
        b"part 2",
        b"part 3",
    ]


def test_a_folder_comes_without_pickles(hub: Path):
    path = pulled("hf:owner/folder")
    assert {file.name for file in path.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}


def test_the_endpoint_setting_is_respected(address: str, tmp_path: Path):
    environment = {**os.environ, "HF_ENDPOINT": address, HOME_VARIABLE: str(tmp_path)}
    code = "from shortlist.checkpoints import pull; print(pull('hf:owner/one', progress=False))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == GGUF


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("hf:owner/two", UsageError, "has 2 GGUF files: name one of them, for example hf:owner/two:a.gguf"),
        ("hf:owner/one:two.gguf", UsageError, "has no file two.gguf: its GGUF files are ['one.gguf']"),
        ("hf:owner/none", UsageError, "neither safetensors nor GGUF files"),
        ("hf:owner/lost", UsageError, "hf:owner/lost lacks m-00002-of-00002.gguf, a part of the model"),
        ("hf:owner/adapter", UsageError, "hf:owner/adapter is an adapter, which is not supported: merge it"),
        ("hf:owner/..--", UsageError, "is not a repository's name"),
        ("hf:owner", UsageError, "is not of the form"),
        ("hf:owner/one:README.md", UsageError, "is not of the form"),
        ("hf:owner/missing", DownloadError, "does not exist or is private"),
        ("hf:owner/gated", DownloadError, "is gated: accept its terms"),
        ("hf:owner/gated:one.gguf", DownloadError, "is gated: accept its terms"),
        ("hf:owner/broken", DownloadError, "check the network and HF_ENDPOINT"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(hub: Path, name: str, kind: type[Exception], words: str):
    with pytest.raises(kind) as caught:
        pull(name, progress=False)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert not list(hub.rglob("*.gguf"))


@pytest.mark.slow
def test_a_download_that_breaks_off_leaves_no_file(hub: Path):
    with pytest.raises(DownloadError, match=r"could not be fetched .*: check the network"):
        pull("hf:owner/cut", progress=False)
    with pytest.raises(CheckpointError, match="is not here yet"):
        resolve("hf:owner/cut")


def test_no_network(home: Path, monkeypatch: pytest.MonkeyPatch):
    _talk_to("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(DownloadError, match=r"hf:owner/one could not be fetched .*: check the network"):
        pull("hf:owner/one", progress=False)


def test_no_disk_space(hub: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(DownloadError, match=f"the disk is full.*{HOME_VARIABLE}"):
        pull("hf:owner/one", progress=False)


@pytest.mark.parametrize("name", ["hf:owner/one", "hf:owner/one:one.gguf", "hf:owner/folder"])
def test_what_was_not_pulled_names_the_command(home: Path, name: str):
    with pytest.raises(CheckpointError, match=f"run `shortlist pull {name}`"):
        resolve(name)


def test_names_are_taken_apart():
    assert parse("hf:owner/repo") == ("owner/repo", None)
    assert parse("hf:owner/repo-1.5:sub/model.Q4_0.gguf") == ("owner/repo-1.5", "sub/model.Q4_0.gguf")
