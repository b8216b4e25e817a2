"""Dispatchers, one file each: they bring token states to the experts and the outputs back.

`DISPATCHERS` lists those that a layer accepts by name.
"""

from shortlist.errors import UsageError
from shortlist.nearest import did_you_mean
from shortlist.torch.dispatchers.all_gather import AllGatherDispatcher
from shortlist.torch.dispatchers.base import Dispatcher, Segments
from shortlist.torch.dispatchers.local import LocalDispatcher

DISPATCHERS: dict[str, type[Dispatcher]] = {
    "local": LocalDispatcher,
    "all_gather": AllGatherDispatcher,
}


def dispatcher_named(name: str) -> Dispatcher:
    """Make the dispatcher with this name in `DISPATCHERS`, over all processes.

    Raises
    ------
    UsageError
        No dispatcher has this name.
    """
    if name not in DISPATCHERS:
        known = ", ".join(DISPATCHERS)
        raise UsageError(
            f"no dispatcher is named {name!r}; there are {known}{did_you_mean(name, DISPATCHERS)}"
        )
    return DISPATCHERS[name]()


__all__ = [
    "DISPATCHERS",
    "AllGatherDispatcher",
    "Dispatcher",
    "LocalDispatcher",
    "Segments",
    "dispatcher_named",
]
