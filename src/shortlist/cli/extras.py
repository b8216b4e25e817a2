"""Checks that the packages of an extra are installed, before a command starts its work."""

from importlib.util import find_spec

from shortlist.errors import ShortlistError

PACKAGES = {
    "torch": ("torch", "transformers"),
    "serve": ("fastapi", "uvicorn", "prometheus_client", "llguidance"),
}
"""Imported packages of each extra, by the extra's name."""


def require(extra: str, what: str) -> None:
    """Raise `ShortlistError` where a package of an extra is not installed.

    Parameters
    ----------
    extra
        A name in `PACKAGES`.
    what
        The command that needs it, for the message.
    """
    if missing := [name for name in PACKAGES[extra] if find_spec(name) is None]:
        names, verb = " and ".join(missing), "are" if len(missing) > 1 else "is"
        raise ShortlistError(
            f"{what} needs {names}, which {verb} not installed: pip install 'shortlist[{extra}]'"
        )
