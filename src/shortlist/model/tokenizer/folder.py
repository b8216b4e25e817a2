"""Reads the tokenizer of a Hugging Face folder."""

import json
from pathlib import Path
from typing import Any, NoReturn

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from shortlist.checkpoints.mapped import LFS, refuse_pointer
from shortlist.errors import CheckpointError
from shortlist.model.tokenizer.merges import build_backend, class_rules
from shortlist.model.tokenizer.parts import TokenizerParts, find_ends, make_special

_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Several times the largest known file (33 MB, Gemma's).
_MAX_BYTES = 1 << 28


def read_folder(folder: Path) -> TokenizerParts:
    """Read `tokenizer.json` and the settings in other files of the folder.

    Raises
    ------
    CheckpointError
        A file is missing, damaged or too large.
    """
    config = {
        **_read_json(folder / "special_tokens_map.json"),
        **_read_json(folder / "tokenizer_config.json"),
    }
    if (folder / "tokenizer.json").is_file():
        backend = _backend(folder)
    else:
        backend, config = _without_tokenizer_json(folder, config)
    _add_missing(backend, config, folder / "tokenizer_config.json")
    names = {name: token for name in _NAMES if (token := _content(config.get(name))) is not None}
    added = {token.content: i for i, token in backend.get_added_tokens_decoder().items()}
    special = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    ends = find_ends(added.get, special.__contains__, {})
    tokens = {i: token for token, i in added.items()}
    make_special(backend, [*names.values(), *(tokens[i] for i in sorted(ends))])
    ids = backend.get_vocab()
    ends |= {i for i in _configured_ends(folder) if 0 <= i < len(ids)}
    if "eos_token" in names:
        ends.add(ids[names["eos_token"]])
    templates = _chat_templates(folder, config)
    return TokenizerParts(
        backend,
        size=max(ids.values(), default=-1) + 1,
        bos_id=ids[names["bos_token"]] if "bos_token" in names else None,
        eos_ids=frozenset(ends),
        names=names,
        chat_template=templates.pop("default", None),
        named_templates=templates,
    )


def _backend(folder: Path) -> Backend:
    file = folder / "tokenizer.json"
    _check(file)
    try:
        backend = Backend.from_file(str(file))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # the library raises Exception, and panics, which are not even that
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{file} is damaged, or newer than the installed tokenizers library: {reason:.200}"
        ) from None
    backend.no_truncation()
    backend.no_padding()
    return backend


def _without_tokenizer_json(folder: Path, config: dict[str, Any]) -> tuple[Backend, dict[str, Any]]:
    """Make the tokenizer of a folder with only a vocabulary and merges, and complete its configuration."""
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if vocabulary.is_file() and merges.is_file():
        rules = class_rules(folder, config, _read_json(folder / "config.json"))
        config = {**rules.names, **config}
        texts = config | {name: _content(config.get(name)) for name in _NAMES}
        return build_backend(folder, rules, texts, _read_json(vocabulary), _read_text(merges)), config
    if (folder / "tokenizer.model").is_file():
        raise CheckpointError(
            f"{folder} has a tokenizer.model but no tokenizer.json: write one with "
            "transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    raise CheckpointError(f"{folder} has no tokenizer.json: fetch the model again")


def _add_missing(backend: Backend, config: dict[str, Any], file: Path) -> None:
    """Add the tokens that only `tokenizer_config.json` lists, as `transformers` does."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    try:
        listed = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
        backend.add_tokens(
            [
                AddedToken(token["content"], **{flag: token[flag] for flag in flags if flag in token})
                for _, token in listed
                if token["content"] not in known
            ]
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _fail(file, f"its added_tokens_decoder is no list of tokens ({error!r:.80})")


def _configured_ends(folder: Path) -> set[int]:
    """The end tokens in `transformers`: those of `generation_config.json`, else of `config.json`."""
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        stated = _read_json(file)
        text_part = stated.get("text_config")
        value = (stated | text_part if isinstance(text_part, dict) else stated).get("eos_token_id")
        if value is None:
            continue
        ids = value if isinstance(value, list) else [value]
        if not all(type(i) is int for i in ids):
            _fail(file, f"its eos_token_id is {value!r:.80}, not a token or a list of tokens")
        return set(ids)
    return set()


def _chat_templates(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """The chat templates by name, as in `transformers`: from template files, else from the configuration."""
    files = {file.stem: file for file in sorted(folder.glob("additional_chat_templates/*.jinja"))}
    if (folder / "chat_template.jinja").is_file():
        files["default"] = folder / "chat_template.jinja"
    if files:
        return {name: _read_text(file) for name, file in files.items()}
    given = config.get("chat_template")
    if given is None:
        return {}
    if isinstance(given, str):
        return {"default": given}
    entries = given.items() if isinstance(given, dict) else _named(given)
    templates = {name: template for name, template in entries if isinstance(name, str)}
    if not templates or not all(isinstance(template, str) for template in templates.values()):
        _fail(
            folder / "tokenizer_config.json", "its chat_template is neither a text nor a list of named ones"
        )
    return templates


def _named(entries: Any) -> list[tuple[Any, Any]]:
    if not isinstance(entries, list):
        return []
    return [(e.get("name", ""), e.get("template")) if isinstance(e, dict) else ("", None) for e in entries]


def _content(token: Any) -> str | None:
    """The text of a special token, which files give alone or with its flags."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        value = json.loads(_read_text(file))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        _fail(file, "it does not hold a valid JSON object")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        _fail(file, f"it holds half of a surrogate pair, {error.object[error.start]!a}")
    return value


def _read_text(file: Path) -> str:
    _check(file)
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"{file} is not UTF-8: fetch the model again") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from None


def _check(file: Path) -> None:
    if file.stat().st_size > _MAX_BYTES:
        raise CheckpointError(
            f"{file} is larger than {_MAX_BYTES >> 20} MiB, which no tokenizer file is: fetch the model again"
        )
    with file.open("rb") as start:
        refuse_pointer(file, start.read(len(LFS)))


def _fail(file: Path, why: str) -> NoReturn:
    raise CheckpointError(f"{file} is damaged: {why}; fetch the model again")
