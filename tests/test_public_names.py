import subprocess
import sys

import pytest

import shortlist


def test_every_public_name_is_there():
    assert sorted(shortlist.__all__) == shortlist.__all__ == dir(shortlist)
    for name in shortlist.__all__:
        assert getattr(shortlist, name).__name__ == name


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        shortlist.nonesuch  # noqa: B018


def test_importing_the_package_is_cheap():
    code = "import sys, shortlist; print(sorted({'numpy', 'rich', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
