"""Commands that need more than the native runtime say so in one line, before they do anything."""

from importlib.util import find_spec

from shortlist.errors import ShortlistError


def require_torch(what: str) -> None:
    """Raise `ShortlistError` where PyTorch or transformers is not installed.

    Parameters
    ----------
    what
        Needs them, for the message.
    """
    if missing := [name for name in ("torch", "transformers") if find_spec(name) is None]:
        names = " and ".join(missing)
        raise ShortlistError(f"{what} needs {names}, which is not installed: pip install 'shortlist[torch]'")
