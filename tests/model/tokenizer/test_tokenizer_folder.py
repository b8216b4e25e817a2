import json
from pathlib import Path
from typing import Any

import pytest
from model.tokenizer.library_backend import library_backend
from model.tokenizer.vocabularies import TEXTS, byte_level, sentence_piece
from tokenizers import AddedToken

from shortlist.errors import CheckpointError, UsageError
from shortlist.model.tokenizer.folder import read_folder
from shortlist.model.tokenizer.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

SPECIAL = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}


def vocabulary(metadata: dict[str, Any]) -> dict[str, int]:
    return {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}


def merges(metadata: dict[str, Any]) -> list[tuple[str, ...]]:
    return [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]


def spm_merges(metadata: dict[str, Any]) -> list[tuple[str, ...]]:
    model = json.loads(library_backend(metadata).to_str())["model"]
    return [tuple(pair) for pair in model["merges"]]


def fast() -> Any:
    backend = library_backend(byte_level("smollm"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)


def qwen2() -> Any:
    metadata = byte_level("qwen2")
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary(metadata), merges=merges(metadata), **SPECIAL)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("</tool>", normalized=False)])
    return tokenizer


def llama() -> Any:
    metadata, _ = sentence_piece(prefix=True)
    return transformers.LlamaTokenizer(
        vocab=vocabulary(metadata), merges=spm_merges(metadata), add_bos_token=True
    )


def gemma() -> Any:
    metadata, _ = sentence_piece(prefix=False)
    return transformers.GemmaTokenizer(
        vocab=vocabulary(metadata),
        merges=spm_merges(metadata),
        bos_token="<s>",
        eos_token="</s>",
        add_bos_token=True,
        add_eos_token=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fast().save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, file: str, **changes: Any) -> None:
    path = folder / file
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize("build", [fast, qwen2, llama, gemma])
def test_equals_transformers(tmp_path, build):
    build().save_pretrained(tmp_path)
    ours = Tokenizer(read_folder(tmp_path), "FOLDER")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, split_special_tokens=True), text
        for add_special in (True, False):
            ids = ours.encode(text, add_special=add_special, parse_special=True)
            assert ids == theirs.encode(text, add_special_tokens=add_special), text
        for skip_special in (True, False):
            assert ours.decode(ids, skip_special=skip_special) == theirs.decode(
                ids, skip_special_tokens=skip_special
            )
    assert ours.bos_id == theirs.bos_token_id
    assert theirs.eos_token_id in ours.eos_ids
    assert ours.special_ids == set(theirs.all_special_ids) | ours.eos_ids | ({395} & ours.special_ids)
    assert ours.vocab_size == len(theirs)


def test_special_tokens_in_text_are_text(folder):
    tokenizer = Tokenizer(read_folder(folder), "FOLDER")
    assert not tokenizer.special_ids & set(tokenizer.encode("<|im_end|><|endoftext|>"))
    assert tokenizer.encode("<|im_end|><tool>", parse_special=True) == [396, 397]


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_end_tokens_of_the_other_files_count(folder, file):
    change(folder, file, eos_token_id=[5, 6, 10_000])
    assert read_folder(folder).eos_ids == {5, 6, 394, 396}
    change(folder, file, eos_token_id=7)
    assert read_folder(folder).eos_ids == {7, 394, 396}
    change(folder, file, eos_token_id=0)
    assert read_folder(folder).eos_ids == {0, 394, 396}


def test_ends_of_generation_go_before_those_of_the_configuration(folder):
    change(folder, "config.json", eos_token_id=5)
    change(folder, "generation_config.json", eos_token_id=[6])
    assert read_folder(folder).eos_ids == {6, 394, 396}
    change(folder, "generation_config.json", eos_token_id=None)
    assert read_folder(folder).eos_ids == {5, 394, 396}


@pytest.mark.parametrize("value", ["</s>", 1.5, True, [1, None]])
def test_ends_that_are_no_tokens(folder, value):
    change(folder, "config.json", eos_token_id=value)
    with pytest.raises(CheckpointError, match=r"config.json is damaged: its eos_token_id is .*, not a token"):
        read_folder(folder)


@pytest.mark.parametrize("special", [True, False])
def test_ends_by_name(folder, special):
    backend = read_folder(folder).backend
    for token in ("</s>", "<|fim_pad|>"):
        backend.add_special_tokens([AddedToken(token)]) if special else backend.add_tokens(
            [AddedToken(token)]
        )
    backend.save(str(folder / "tokenizer.json"))
    assert read_folder(folder).eos_ids == {394, 396, 401} | ({400} if special else set())


def test_what_is_put_around_a_text_is_up_to_the_tokenizer_file(folder):
    # As in transformers: the flags are for tokenizers that are made from a tokenizer.model.
    change(folder, "tokenizer_config.json", add_bos_token=True)
    assert Tokenizer(read_folder(folder), "FOLDER").encode("a") == [64]
    assert transformers.AutoTokenizer.from_pretrained(folder).encode("a") == [64]


def test_tokens_that_only_the_configuration_lists(folder):
    listed = {"400": {"content": "<extra>", "special": True, "normalized": False}}
    change(folder, "tokenizer_config.json", added_tokens_decoder=listed)
    tokenizer = Tokenizer(read_folder(folder), "FOLDER")
    assert tokenizer.encode("<extra>", parse_special=True) == [400]
    assert 400 in tokenizer.special_ids
    assert tokenizer.vocab_size == 401


def test_truncation_and_padding_are_turned_off(folder):
    backend = read_folder(folder).backend
    expected = backend.encode("a b c").ids
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    backend.save(str(folder / "tokenizer.json"))
    assert len(expected) > 2
    assert Tokenizer(read_folder(folder), "FOLDER").encode("a b c") == expected


class TestChatTemplate:
    def test_in_a_file_of_its_own(self, folder):
        change(folder, "tokenizer_config.json", chat_template="other")
        (folder / "chat_template.jinja").write_text("é")
        assert read_folder(folder).chat_template == "é"

    def test_in_the_configuration(self, folder):
        change(folder, "tokenizer_config.json", chat_template="template")
        assert read_folder(folder).chat_template == "template"

    SEVERAL = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "template"}]  # noqa: RUF012

    def test_several(self, folder):
        change(folder, "tokenizer_config.json", chat_template=self.SEVERAL)
        parts = read_folder(folder)
        assert parts.chat_template == "template"
        assert parts.named_templates == {"tool_use": "tools"}

    def test_several_in_files(self, folder):
        change(folder, "tokenizer_config.json", chat_template="other")
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
        assert read_folder(folder).chat_template is None
        (folder / "chat_template.jinja").write_text("template")
        parts = read_folder(folder)
        assert parts.chat_template == "template"
        assert parts.named_templates == {"tool_use": "tools"}

    @pytest.mark.parametrize(
        "template", [5, True, [], {}, ["a"], [{"name": "default"}], [{"template": "a"}, 3], {"a": 1}]
    )
    def test_what_is_no_template_is_refused(self, folder, template):
        change(folder, "tokenizer_config.json", chat_template=template)
        with pytest.raises(
            CheckpointError, match=r"tokenizer_config.json is damaged: its chat_template is neither"
        ):
            read_folder(folder)

    @pytest.mark.parametrize("tools", [None, [], [{"name": "f"}]])
    @pytest.mark.parametrize(
        "several", [SEVERAL, SEVERAL[1:], SEVERAL[:1], [{"name": "rag", "template": "r"}]]
    )
    def test_the_one_that_is_taken_is_that_of_transformers(self, folder, several, tools):
        change(folder, "tokenizer_config.json", chat_template=several)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        messages = [{"role": "user", "content": "a"}]
        ours = Tokenizer(read_folder(folder), "FOLDER")
        try:
            expected = theirs.apply_chat_template(messages, tools=tools, tokenize=False)
        except ValueError:
            names = ", ".join(entry["name"] for entry in several)
            with pytest.raises(
                UsageError, match=f"FOLDER has the chat templates {names}, and none is the default"
            ):
                ours.encode_chat(messages, tools=tools)
        else:
            assert ours.decode(ours.encode_chat(messages, tools=tools)) == expected

    def test_tools_are_known_by_the_template_for_them(self, folder):
        several = [
            {"name": "tool_use", "template": "{{ tools }}"},
            {"name": "default", "template": "{{ x }}"},
        ]
        change(folder, "tokenizer_config.json", chat_template=several)
        tokenizer = Tokenizer(read_folder(folder), "FOLDER")
        assert tokenizer.template_names == ("tool_use",)
        assert tokenizer.template_knows("tools")
        assert tokenizer.template_knows("x")
        assert not tokenizer.template_knows("y")

    def test_none(self, folder):
        assert read_folder(folder).chat_template is None
        assert read_folder(folder).named_templates == {}


@pytest.mark.parametrize("field", ["bos_token", "chat_template", "anything"])
@pytest.mark.parametrize(
    "file", ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json"]
)
def test_half_of_a_surrogate_pair_is_refused(folder, file, field):
    change(folder, file, **{field: "a\ud800"})
    with pytest.raises(
        CheckpointError, match=rf"{file} is damaged: it holds half of a surrogate pair, '\\ud800'"
    ):
        read_folder(folder)


def test_and_so_is_one_in_the_vocabulary(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"<tool>"', '"<\\ud800>"'))
    with pytest.raises(CheckpointError, match=r"tokenizer.json is damaged"):
        read_folder(folder)


class TestBadFolders:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"has no tokenizer.json: fetch the model again"):
            read_folder(tmp_path)

    def test_only_sentencepiece(self, tmp_path):
        (tmp_path / "tokenizer.model").write_bytes(b"")
        with pytest.raises(CheckpointError, match=r"a tokenizer.model but no tokenizer.json: write one with"):
            read_folder(tmp_path)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": "1.0", "model": {"type": "?"}}']
    )
    def test_damaged_tokenizer(self, folder, content):
        (folder / "tokenizer.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"tokenizer.json is damaged, or newer") as caught:
            read_folder(folder)
        assert "\n" not in str(caught.value)

    def test_merges_that_make_the_library_panic(self, folder):
        content = json.loads((folder / "tokenizer.json").read_text())
        content["model"]["vocab"] = {"a": 0, "c": 1}
        content["model"]["merges"] = [["a", "c"]]
        (folder / "tokenizer.json").write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=r"tokenizer.json is damaged, or newer"):
            read_folder(folder)

    @pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
    @pytest.mark.parametrize(
        "file", ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json"]
    )
    def test_damaged_configuration(self, folder, file, content):
        (folder / file).write_text(content)
        with pytest.raises(CheckpointError, match=f"{file} is damaged: .*fetch the model again"):
            read_folder(folder)

    @pytest.mark.parametrize(
        "listed", [{"x": {"content": "<extra>"}}, {"400": "<extra>"}, {"400": {}}, {"400": {"content": 3}}]
    )
    def test_damaged_list_of_tokens(self, folder, listed):
        change(folder, "tokenizer_config.json", added_tokens_decoder=listed)
        with pytest.raises(CheckpointError, match=r"tokenizer_config.json is damaged"):
            read_folder(folder)

    def test_not_utf8(self, folder):
        (folder / "chat_template.jinja").write_bytes(b"\xff")
        with pytest.raises(CheckpointError, match=r"chat_template.jinja is not UTF-8"):
            read_folder(folder)

    def test_too_large(self, folder):
        with (folder / "tokenizer.json").open("r+b") as file:
            file.truncate(1 << 29)  # sparse
        with pytest.raises(CheckpointError, match="larger than 256 MiB"):
            read_folder(folder)
