"""Rules of language that a program can check: first words of docstrings and comments, long table cells."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src/shortlist"

# Folders and files under src/shortlist that are checked; the list grows until it is `["."]`.
CHECKED = [
    "__init__.py",
    "__main__.py",
    "checkpoints",
    "cli",
    "documents.py",
    "drawing.py",
    "errors.py",
    "index",
    "memory.py",
    "model/chat",
    "model/tokenizer",
    "native/bindings",
    "native/formats",
    "native/kernels",
    "native/pool",
    "native/tokenizer",
    "native/torch",
    "nearest.py",
    "nn.py",
    "paths.py",
    "peers",
    "registry.py",
    "report",
    "server",
    "torch",
]
FIRST_WORDS = {"Of", "What", "Which", "Where", "How", "That", "Whose"}
LONGEST_CELL = 40  # words


def files(*suffixes: str) -> list[Path]:
    return sorted(
        path
        for name in CHECKED
        for path in (SOURCE / name, *(SOURCE / name).rglob("*"))
        if path.is_file() and path.suffix in suffixes and path.name != "_native.pyi"
    )


def pages() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return found


def docstrings(source: str) -> list[tuple[int, str]]:
    """Line and text of each string that stands alone: docstrings, and strings below a variable."""
    return [
        (node.lineno, node.value.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


def wrong_first_words(source: str) -> list[str]:
    return [
        f"{line}: {text.strip().splitlines()[0]}"
        for line, text in docstrings(source)
        if (words := re.findall(r"\w+", text)) and words[0] in FIRST_WORDS
    ]


def begins_with_of(lines: list[str]) -> list[str]:
    """Lines in which a sentence or a parameter description begins with "Of"."""
    return [line.strip() for line in lines if re.search(r"(^|[.:;] )Of\b", line.strip())]


def python_text(source: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string.lstrip("#: ") for token in tokens if token.type == tokenize.COMMENT]
    return [*comments, *(line for _, text in docstrings(source) for line in text.splitlines())]


def native_comments(source: str) -> list[str]:
    return [match.lstrip("/*!< ") for match in re.findall(r"//[^\n]*|/\*.*?\*/", source, re.DOTALL)]


def long_cells(page: str) -> list[str]:
    rows = [line.strip() for line in page.splitlines() if line.lstrip().startswith("|")]
    cells = [cell for row in rows for cell in re.split(r"(?<!\\)\|", row)]
    return [cell.strip() for cell in cells if len(cell.split()) > LONGEST_CELL]


def test_no_docstring_begins_with_a_relative_word():
    found = [f"{path}:{each}" for path in files(".py") for each in wrong_first_words(path.read_text())]
    assert not found, "\n".join(found)


def test_no_line_begins_with_of():
    found = [
        f"{path}: {line}" for path in files(".py") for line in begins_with_of(python_text(path.read_text()))
    ]
    assert not found, "\n".join(found)


def test_no_native_comment_begins_with_of():
    native = files(".hpp", ".cpp", ".inl")
    found = [
        f"{path}: {line}" for path in native for line in begins_with_of(native_comments(path.read_text()))
    ]
    assert not found, "\n".join(found)


def test_cells_of_tables_are_short():
    found = [f"{page}: {cell[:100]}" for page in pages() for cell in long_cells(page.read_text())]
    assert not found, "\n".join(found)


def test_checked_names_exist():
    assert all((SOURCE / name).exists() for name in CHECKED)


@pytest.mark.parametrize("word", sorted(FIRST_WORDS))
def test_a_wrong_first_word_is_found(word):
    assert wrong_first_words(f'def f():\n    """{word} a thing is."""\n')
    assert wrong_first_words(f'A = 1\n"""\n{word} a thing is.\n"""\n')
    assert not wrong_first_words(f'def f():\n    """A thing. {word.lower()} it is."""\n    g("{word} is")\n')


def test_of_is_found_where_a_line_begins():
    assert begins_with_of(python_text("x = 1  # Of a model\n"))
    assert begins_with_of(python_text('def f(a):\n    """Do.\n\n    a\n        Of the model.\n    """\n'))
    assert begins_with_of(native_comments("int a; // Of a model\n/* Of two */"))
    assert not begins_with_of(python_text("# The size of a model, Often used\n"))
    assert not begins_with_of(native_comments("// of an array that a line before names\n"))


def test_long_cells_are_found():
    long = " ".join(["word"] * (LONGEST_CELL + 1))
    assert long_cells(f"| a | {long} |\n") == [long]
    assert not long_cells(f"| {long[5:]} | a |\n{long}\n")
