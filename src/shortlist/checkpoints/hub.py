"""Models on the Hugging Face Hub, named `hf:owner/repo` or `hf:owner/repo:file.gguf`."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from shortlist.checkpoints.gguf_parts import is_later_part, part_names
from shortlist.errors import CheckpointError, DownloadError, UsageError
from shortlist.paths import cache_folder

# The files of a folder that this program reads; others (PyTorch pickles, ONNX, images) are not fetched.
_FOLDER_FILES: list[str] = [
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
]

_DISK_TROUBLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
)


class Reference(NamedTuple):
    """The parts of a name after `hf:`."""

    repo: str
    file: str | None


def parse(name: str) -> Reference:
    """Parse `hf:owner/repo[:file.gguf]`.

    Raises
    ------
    UsageError
        The name has another form.
    """
    match = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?::([^:]+\.gguf))?", name)
    if match is None:
        raise UsageError(f"{name} is not of the form hf:owner/repo or hf:owner/repo:file.gguf")
    return Reference(match[1], match[2])


def pull(name: str, *, progress: bool) -> Path:
    """Fetch a GGUF file or a folder of safetensors into the cache; files in the cache are not fetched again.

    Raises
    ------
    UsageError
        The name is malformed, or several files match it.
    DownloadError
        The Hub cannot be reached, or refuses the file.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2

    reference = parse(name)
    try:
        # First, because this fails at once without a network, while downloads retry for half a minute.
        info = hub.HfApi().model_info(reference.repo)
        files = sorted(sibling.rfilename for sibling in info.siblings or [])
        file = _choose(reference, files)
        parts = _parts(reference, file, files)
        with _quiet(unless=progress):
            if file is None:
                return Path(
                    hub.snapshot_download(reference.repo, cache_dir=_folder(), allow_patterns=_FOLDER_FILES)
                )
            paths = [hub.hf_hub_download(reference.repo, part, cache_dir=_folder()) for part in parts]
            return Path(paths[0])
    except errors.HFValidationError as error:
        raise UsageError(f"{name} is not a repository's name: {_one_line(error)}") from None
    except errors.GatedRepoError:
        raise DownloadError(
            f"{name} is gated: accept its terms on its page on the Hub, log in with `hf auth login`, "
            "then pull again"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"{name} does not exist or is private: check the spelling, or log in with `hf auth login`"
        ) from None
    except (HTTPError, OSError) as error:
        if getattr(error, "errno", None) in _DISK_TROUBLE:
            raise
        raise DownloadError(
            f"{name} could not be fetched ({_one_line(error)}): check the network and HF_ENDPOINT, "
            "then pull again"
        ) from None


def find(name: str) -> Path:
    """The path of a pulled model of the Hub.

    Raises
    ------
    UsageError
        The name is malformed.
    CheckpointError
        The model was not pulled.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repo, file = parse(name)
    try:
        if file:
            return Path(hub.hf_hub_download(repo, file, cache_dir=_folder(), local_files_only=True))
        folder = Path(
            hub.snapshot_download(
                repo, cache_dir=_folder(), allow_patterns=_FOLDER_FILES, local_files_only=True
            )
        )
    except HFValidationError as error:
        raise UsageError(f"{name} is not a repository's name: {_one_line(error)}") from None
    except LocalEntryNotFoundError:
        raise _not_here(name) from None
    if (folder / "config.json").exists():
        return folder
    files = [path for path in folder.rglob("*.gguf") if not is_later_part(path)]
    if len(files) == 1:
        return files[0]
    raise _not_here(name)


def _not_here(name: str) -> CheckpointError:
    return CheckpointError(f"{name} is not here yet: run `shortlist pull {name}`")


def _choose(reference: Reference, files: list[str]) -> str | None:
    """The GGUF file of the repository to fetch; None to fetch its safetensors."""
    choices = [name for name in files if name.endswith(".gguf") and not is_later_part(Path(name))]
    if reference.file in choices:
        return reference.file
    if reference.file is not None:
        raise UsageError(
            f"hf:{reference.repo} has no file {reference.file}: its GGUF files are {choices!s:.200}"
        )
    if any(fnmatch(name, "model*.safetensors") for name in files):
        return None
    if len(choices) == 1:
        return choices[0]
    if choices:
        raise UsageError(
            f"hf:{reference.repo} has {len(choices)} GGUF files: "
            f"name one of them, for example hf:{reference.repo}:{choices[0]}"
        )
    if "adapter_config.json" in files:
        raise UsageError(
            f"hf:{reference.repo} is an adapter, which is not supported: merge it into its model "
            "(merge_and_unload of peft) and save that"
        )
    raise UsageError(f"hf:{reference.repo} has neither safetensors nor GGUF files: choose another repository")


def _parts(reference: Reference, file: str | None, files: list[str]) -> list[str]:
    """The names of all files of the model whose first file is this one."""
    parts = part_names(file) if file else []
    if missing := [name for name in parts if name not in files]:
        raise UsageError(
            f"hf:{reference.repo} lacks {missing[0]}, a part of the model: choose another repository or file"
        )
    return parts


@contextmanager
def _quiet(*, unless: bool) -> Iterator[None]:
    """Turn off the library's progress bars and warnings, whose switches are global."""
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars, logging

    if unless:
        yield
        return
    verbosity = logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        enable_progress_bars()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _folder() -> Path:
    return cache_folder() / "hub"
