"""Every code block of the docs runs, in order, page by page, on tiny models."""

import re
import shlex
import shutil

import pytest
from builders import tiny_gguf, tiny_hf
from docs.pages import LANGUAGES, PAGES, ROOT, Block, Runner, blocks, check, commands

SLOW = {"README", "convert", "report", "train", "tune"}
"""Pages that take more than 2 seconds; of these, options and paths are checked all the same."""


SIZES = {
    "max_position_embeddings": 1024,
    "hidden_size": 128,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
}
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """Tiny models under the names that the docs use."""
    folder = tmp_path_factory.mktemp("models")
    for name, family in [("smollm2-135m", "llama"), ("gemma-3-270m", "gemma3"), ("olmoe.gguf", "olmoe")]:
        tiny_gguf(family, folder / name, "Q8_0", TEMPLATE, **SIZES)
    tiny_hf("arcee", folder / "FOLDER")
    return folder


@pytest.fixture
def place(stand_ins, tmp_path, monkeypatch):
    """The folder that a page's blocks run in, with the files that they name."""
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path / "home"))
    shutil.copytree(stand_ins, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    # A path comes before a name of the catalogue only where the name is not one: so the catalogue is emptied.
    monkeypatch.setattr("shortlist.checkpoints.store.CATALOGUE", {})
    text = (ROOT / "benchmarks" / "data" / "shakespeare.txt").read_text(encoding="utf-8")[:12_000]
    for name in ("book.txt", "calibration.txt", "FILE"):
        (tmp_path / "work" / name).write_text(text, encoding="utf-8")
    (tmp_path / "work" / "benchmarks" / "data").mkdir(parents=True)
    for name in ("shakespeare.txt", "shakespeare-plays.txt"):
        (tmp_path / "work" / "benchmarks" / "data" / name).write_text(text, encoding="utf-8")
    (tmp_path / "work" / "examples").mkdir()
    example = (ROOT / "examples" / "train.toml").read_text(encoding="utf-8")
    for key, value in {
        "vocabulary": 300,
        "steps": 3,
        "batch": 2,
        "hidden_size": 32,
        "num_hidden_layers": 1,
    }.items():
        example, found = re.subn(rf"^{key} = \d+", f"{key} = {value}", example, flags=re.MULTILINE)
        assert found == 1
    (tmp_path / "work" / "examples" / "train.toml").write_text(example, encoding="utf-8")
    return tmp_path / "work"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.slow] if page.stem in SLOW else []
        )
        for page in PAGES
        if any(block.language in ("python", "sh") for block in blocks(page))
    ],
)
def test_the_blocks_of_a_page_run_in_order(page, place, capfd):
    runner = Runner(capfd)
    with runner.cleanup:
        for block in blocks(page):
            runner.run(block)


def test_every_command_is_one_that_the_program_takes():
    for page in PAGES:
        for block in blocks(page):
            for command in commands(block.text) if block.language == "sh" else ():
                words = shlex.split(command, comments=True)
                check(words[words.index("|") + 1 :] if "|" in words else words)


def test_diffs_show_lines_that_are_there():
    path, seen = "", 0
    for block in (block for page in PAGES for block in blocks(page) if block.language == "diff"):
        for line in block.text.splitlines():
            if line.startswith("+++ b/"):
                path = line.removeprefix("+++ b/")
            elif line.startswith("+"):
                assert line[1:] in (ROOT / path).read_text(encoding="utf-8").splitlines(), (
                    f"{block}: {path}: {line}"
                )
                seen += 1
    assert seen


def test_every_block_says_its_language():
    unknown = [str(block) for page in PAGES for block in blocks(page) if block.language not in LANGUAGES]
    assert not unknown, f"choose one of {sorted(LANGUAGES)}"


def test_the_example_of_training_is_the_one_that_the_page_shows():
    (shown,) = [block for block in blocks(ROOT / "docs" / "train.md") if block.language == "toml"]
    assert (ROOT / "examples" / "train.toml").read_text(encoding="utf-8").endswith(shown.text)


def test_commands_are_told_apart():
    text = "a 'b\nc' # d\n\n# all of it\ne \\\n  f\n"
    assert list(commands(text)) == ["a 'b\nc' # d", "e \\\n  f"]


@pytest.mark.parametrize(
    "command",
    [
        ["shortlist", "run", "model", "--no-such-option"],
        ["numactl", "--membind=0", "shortlist", "serve", "model", "--no-such-option"],
        ["make", "no-such-target"],
        ["pip", "install", "shortlist[nothing]"],
        ["docker", "build", "-f", "deploy/nothing"],
    ],
)
def test_what_a_command_names_is_checked(command):
    with pytest.raises(Exception, match=r"no-such|nothing"):
        check(command)


def test_a_block_that_fails_fails_its_page(place, capfd):
    with pytest.raises(ZeroDivisionError):
        Runner(capfd).run(Block(ROOT / "README.md", 1, "python", "1 / 0"))
    with pytest.raises(AssertionError, match="there is no model nothing"):
        Runner(capfd).run(Block(ROOT / "README.md", 1, "sh", "shortlist inspect nothing"))
