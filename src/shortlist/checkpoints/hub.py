"""Models on the Hugging Face Hub, named `hf:owner/repo` or `hf:owner/repo:file.gguf`."""

import re
from pathlib import Path
from typing import NamedTuple, NoReturn

from shortlist.errors import CheckpointError, DownloadError, UsageError
from shortlist.paths import cache_folder

PREFIX = "hf:"

# A folder's files that this program reads; the rest (PyTorch pickles, ONNX, images) is not fetched.
_FOLDER_FILES = (
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
)


class Reference(NamedTuple):
    """What stands behind `hf:`."""

    repo: str
    file: str | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f":{self.file}" if self.file else "")


def parse(name: str) -> Reference:
    """Take `hf:owner/repo[:file.gguf]` apart.

    Raises
    ------
    UsageError
        It has another form.
    """
    match = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?::([^:]+\.gguf))?", name)
    if match is None:
        raise UsageError(f"{name} is not of the form hf:owner/repo or hf:owner/repo:file.gguf")
    return Reference(match[1], match[2])


def pull(name: str, *, progress: bool) -> Path:
    """Fetch a GGUF file or a folder of safetensors into the cache; what is there is not fetched again.

    Raises
    ------
    UsageError
        The name is malformed, or does not say which of several files.
    DownloadError
        The Hub cannot be reached, or does not give it to us.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2

    reference = parse(name)
    if not progress:
        hub.utils.disable_progress_bars()
    try:
        file = reference.file or _only_gguf(reference, hub)
        if file is None:
            return Path(
                hub.snapshot_download(reference.repo, cache_dir=_folder(), allow_patterns=list(_FOLDER_FILES))
            )
        return Path(hub.hf_hub_download(reference.repo, file, cache_dir=_folder()))
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
    except errors.LocalEntryNotFoundError as error:
        _fail(reference, error)
    except errors.EntryNotFoundError:
        raise DownloadError(
            f"{reference.repo} has no file {reference.file}: see its list of files on the Hub"
        ) from None
    except (HTTPError, ConnectionError) as error:
        _fail(reference, error)
    finally:
        if not progress:
            hub.utils.enable_progress_bars()


def find(name: str) -> Path:
    """Where a model of the Hub that was pulled lies.

    Raises
    ------
    UsageError
        The name is malformed.
    CheckpointError
        It has not been pulled.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    reference = parse(name)
    try:
        if reference.file:
            return Path(
                hub.hf_hub_download(
                    reference.repo, reference.file, cache_dir=_folder(), local_files_only=True
                )
            )
        folder = Path(hub.snapshot_download(reference.repo, cache_dir=_folder(), local_files_only=True))
    except LocalEntryNotFoundError:
        raise CheckpointError(f"{name} is not here yet: run `shortlist pull {name}`") from None
    files = list(folder.glob("*.gguf"))
    return files[0] if len(files) == 1 and not (folder / "config.json").exists() else folder


def _only_gguf(reference: Reference, hub) -> str | None:
    """The repository's GGUF file; None when it has safetensors."""
    siblings = hub.HfApi().model_info(reference.repo).siblings or []
    names = [sibling.rfilename for sibling in siblings]
    if any(name.startswith("model") and name.endswith(".safetensors") for name in names):
        return None
    files = sorted(name for name in names if name.endswith(".gguf"))
    if len(files) == 1:
        return files[0]
    if files:
        raise UsageError(
            f"{reference} has {len(files)} GGUF files: name one of them, for example {reference}:{files[0]}"
        )
    raise DownloadError(f"{reference} has neither safetensors nor GGUF files: choose another repository")


def _fail(reference: Reference, error: Exception) -> NoReturn:
    raise DownloadError(
        f"{reference} could not be fetched ({_one_line(error)}): check the network and HF_ENDPOINT, "
        "then pull again"
    ) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _folder() -> Path:
    return cache_folder() / "hub"
