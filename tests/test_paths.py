"""The cache folder is the user's choice, or the platform's."""

from pathlib import Path

import platformdirs
import pytest

from shortlist.errors import ShortlistError
from shortlist.paths import HOME_VARIABLE, cache_folder, write_whole


def test_the_variable_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv(HOME_VARIABLE, "~/models")
    assert cache_folder() == Path.home() / "models"


@pytest.mark.parametrize("unset", [None, ""])
def test_else_the_platform_says(monkeypatch: pytest.MonkeyPatch, unset: str | None):
    if unset is None:
        monkeypatch.delenv(HOME_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(HOME_VARIABLE, unset)
    assert cache_folder() == platformdirs.user_cache_path("shortlist")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = tmp_path / "page.html"
    page.write_text("old")

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(ShortlistError, match="cannot be written: No space left"):
        write_whole(page, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert page.read_text() == "old"
