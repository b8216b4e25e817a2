import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import shortlist


def test_every_public_name_is_there():
    assert sorted(shortlist.__all__) == shortlist.__all__ == dir(shortlist)
    for name in shortlist.__all__:
        if name != "__version__":
            assert getattr(shortlist, name).__name__ == name


def test_the_version_is_that_of_the_package():
    assert shortlist.__version__ == version("shortlist")


def test_type_checkers_are_told_that_there_are_types():
    assert (Path(shortlist.__file__).parent / "py.typed").exists()


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        shortlist.nonesuch  # noqa: B018


def test_importing_the_package_is_cheap():
    code = "import sys, shortlist; print(sorted({'numpy', 'rich', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
