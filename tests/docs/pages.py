"""The code blocks of the docs, and how each of them is run on tiny models.

Blocks of a page run in order: Python in one namespace, shell commands one after another, all in a folder with
the files that the docs name. The models' names stand for tiny models there. What cannot run in a test is
checked as far as it goes: a command with its options, a file by its path.
"""

import contextlib
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from server.serving import serving
from typer.main import get_command

import shortlist
from shortlist.cli import app, run_command

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "lab" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LANGUAGES = {"diff", "python", "sh", "toml", "json", "nginx", "text"}
FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
BASE_URL = "http://127.0.0.1:8000"

# What a reader waits minutes for, a test does not.
SHORTER = {
    "--heal-minutes 5": "--heal-minutes 0.002",
    "--heal-tokens 20000": "--heal-tokens 600",
    "--layers 26-29": "--layers 1",
}
# Commands that need the network, other engines, or a model of real size: their options are checked.
ONLY_PARSED = ("shortlist bench", "shortlist pull", "make ", "pip ")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[2].strip(), match[3])
        for match in FENCE.finditer(text)
    ]


def commands(text: str) -> Iterator[str]:
    """The commands of a shell block: lines, where a quote or a backslash does not join them."""
    pending = ""
    for line in text.splitlines():
        pending += line + "\n"
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quote that goes on in the next line
            continue
        if words:
            yield pending.strip()
        pending = ""
    assert not pending.strip(), f"a quote never ends: {pending}"


class Runner:
    """Runs the blocks of one page in the current folder."""

    def __init__(self, capture):
        self.capture = capture
        self.names: dict = {"__name__": "__main__", "shortlist": shortlist}
        self.cleanup = contextlib.ExitStack()
        self.url = ""

    def run(self, block: Block) -> None:
        """Run one block; an error names its page and line."""
        match block.language:
            case "python":
                code = compile(block.text.replace(BASE_URL, self.url or BASE_URL), str(block), "exec")
                exec(code, self.names)
            case "sh":
                for command in commands(block.text):
                    self.command(str(block), command)
            case "toml":
                tomllib.loads(block.text)

    def command(self, where: str, command: str) -> None:
        """Run one shell command, or check what can be checked of it."""
        for long, short in SHORTER.items():
            command = command.replace(long, short)
        words = shlex.split(command, comments=True)
        if command.startswith(ONLY_PARSED):
            check(words)
            return
        stdin = ""
        if words[0] == "echo" and "|" in words:
            stdin = " ".join(words[1 : words.index("|")]) + "\n"
            words = words[words.index("|") + 1 :]
        match words[0]:
            case "shortlist" if words[1] == "serve":
                check(words)
                self.url = self.cleanup.enter_context(
                    serving(self.cleanup.enter_context(shortlist.load(words[2])), name=words[2])
                )
            case "shortlist":
                code, err = self.shortlist(words[1:], stdin)
                assert code == 0, f"{where}: {command} ended with {code}: {err}"
            case "curl":
                self.curl(where, words)
            case _:
                check(words)

    def shortlist(self, arguments: list[str], stdin: str) -> tuple[int, str]:
        """Run the program in this process; its exit code and standard error."""
        if ">" in arguments:
            arguments = arguments[: arguments.index(">")]
        source = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
        if not stdin and arguments[0] != "chat":
            source.isatty = lambda: True
        before, sys.stdin = sys.stdin, source
        try:
            code = run_command(arguments)
        finally:
            sys.stdin = before
        return code, self.capture.readouterr().err

    def curl(self, where: str, words: list[str]) -> None:
        """Send what curl would send."""
        (url,) = [word for word in words if word.startswith("http")]
        bodies = [words[i + 1] for i, word in enumerate(words) if word in ("-d", "--data")]
        headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
        method = "POST" if bodies else "GET"
        url = url.replace(BASE_URL, self.url)
        answer = httpx.request(method, url, headers=headers, content="".join(bodies) or None, timeout=60)
        assert answer.status_code == 200, f"{where}: {answer.status_code} {answer.text}"


def check(words: list[str]) -> None:
    """Check what a command names, without running it."""
    if "shortlist" in words and words[0] != "docker":
        words = words[words.index("shortlist") :]
    match words:
        case ["shortlist", name, *arguments]:
            if ">" in arguments:
                arguments = arguments[: arguments.index(">")]
            command = get_command(app).commands[name]  # pyright: ignore[reportAttributeAccessIssue]
            command.make_context(name, arguments)
        case ["make", *targets]:
            phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {target for target in targets if "=" not in target} <= set(" ".join(phony).split()), words
        case _:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            for word in words:
                if found := re.search(r"(?:shortlist|\.)\[(\w+)\]", word):
                    assert found[1] in extras, words
                if word.startswith(("deploy/", "benchmarks/", "examples/", "lab/", "scripts/")):
                    assert (ROOT / word).exists(), words
