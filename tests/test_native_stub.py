"""The native module has types: a stub that is generated with it, installed beside it, and names all of it."""

import ast
from importlib.metadata import files

from shortlist import _native


def test_the_stub_is_installed():
    """What is installed, in place too, is what a wheel holds."""
    installed = {str(path) for path in files("shortlist") or ()}
    assert "shortlist/_native.pyi" in installed


def test_the_stub_names_what_the_module_holds():
    path = next(path for path in files("shortlist") or () if path.name == "_native.pyi")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    named |= {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert named == {name for name in vars(_native) if not name.startswith("_")}
