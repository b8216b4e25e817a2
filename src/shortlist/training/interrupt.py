"""Ctrl-C as a request to stop after the step that is being computed."""

import signal
import threading
from types import FrameType


class Interrupt:
    """While it is entered, the first Ctrl-C sets `requested`, and a second one raises `KeyboardInterrupt`.

    Signals reach the main thread alone, so in other threads it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Interrupt":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._previous)

    def _request(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
