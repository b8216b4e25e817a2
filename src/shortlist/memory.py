"""Measures the peak memory of this process."""

import sys
from pathlib import Path


def peak_rss_bytes() -> int:
    """The most memory that this program has held, shared pages of mapped files included.

    On Linux not what `getrusage` says: a process inherits the peak of the one that started it.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):  # not Linux, or a sandbox that hides it
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
