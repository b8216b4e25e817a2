"""Commands that need more than the native runtime say so in one line, before they do anything."""

from importlib.util import find_spec

from shortlist.errors import ShortlistError

PACKAGES = {
    "torch": ("torch", "transformers"),
    "serve": ("fastapi", "uvicorn", "prometheus_client", "llguidance"),
}
"""What the extras of this project bring that is imported, by the extra's name."""


def require(extra: str, what: str) -> None:
    """Raise `ShortlistError` where a package of an extra is not installed.

    Parameters
    ----------
    extra
        Of `PACKAGES`.
    what
        Needs it, for the message.
    """
    if missing := [name for name in PACKAGES[extra] if find_spec(name) is None]:
        names, verb = " and ".join(missing), "are" if len(missing) > 1 else "is"
        raise ShortlistError(
            f"{what} needs {names}, which {verb} not installed: pip install 'shortlist[{extra}]'"
        )
