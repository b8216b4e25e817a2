"""Turns Ctrl-C and SIGTERM into requests to stop after the present step."""

import signal
import threading
from types import FrameType


class Interrupt:
    """A context manager that records the first signal as `number`; a second one raises `KeyboardInterrupt`.

    Only the main thread gets signals, so in other threads it does nothing. Where SIGINT was ignored it stays
    ignored: shells start background jobs so, because Ctrl-C is not meant for them.

    Attributes
    ----------
    number : int or None
        The signal that asked to stop.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.number is not None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.number = number
