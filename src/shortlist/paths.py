"""Where this program keeps what it can fetch or compute again."""

import os
from pathlib import Path

import platformdirs

HOME_VARIABLE = "SHORTLIST_HOME"


def cache_folder() -> Path:
    """`SHORTLIST_HOME` where it is set, else the platform's cache folder; it need not exist yet."""
    if home := os.environ.get(HOME_VARIABLE):
        return Path(home).expanduser()
    return platformdirs.user_cache_path("shortlist")
