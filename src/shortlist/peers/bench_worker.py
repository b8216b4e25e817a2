"""Runs one engine in a separate process, so that its peak memory is measured alone.

The child reads one JSON request per line and answers with one JSON line. It is idle between requests, so
the parent decides which engine works, and only one works at a time.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO, cast

from shortlist.errors import ShortlistError
from shortlist.memory import peak_rss_bytes
from shortlist.peers import PEERS, Peer, PeerError

if TYPE_CHECKING:
    from shortlist.engine.choose_head import HeadName
    from shortlist.model.decoder import Ffn


class Worker:
    """The parent's side.

    Parameters
    ----------
    engine
        `shortlist`, or a key of `PEERS`.
    head
        For `shortlist`: `dense`, `estimated`, `exact`, or `recipe` for all that the recipe says.
    path
        Path of the model.
    threads
    ffn, recipe
        Options of `shortlist.load`, for `shortlist`; the recipe is used with the head `recipe`.

    Attributes
    ----------
    settings : str
        The settings that the engine chose or fell back to.

    Raises
    ------
    PeerError
        The engine is not installed, or cannot load this model.
    """

    def __init__(
        self,
        engine: str,
        head: str,
        path: Path,
        threads: int,
        ffn: "Ffn" = "auto",
        recipe: str | None = None,
    ):
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (open as long as the process runs)
        # Libraries with their own thread pools read this at their start.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, engine, head, str(path), str(threads), ffn, recipe or ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        try:
            self.settings: str = self._answer()["settings"]
        except BaseException:
            self.close()
            raise

    def prefill(self, tokens: Sequence[int]) -> dict[str, float]:
        """Prefill `tokens`: `seconds`, and `peak_rss_mb` so far."""
        return self._ask(prefill=list(tokens))

    def decode(self, prompt: Sequence[int], count: int) -> dict[str, float]:
        """Decode `count` tokens after `prompt`: `seconds`, `bytes_per_token` and `peak_rss_mb` so far."""
        return self._ask(decode=list(prompt), count=count)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, **request: Any) -> dict[str, float]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died while idle: `_answer` reports that
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            said = self._log.read().strip().splitlines() or ["it said nothing"]
            raise PeerError(f"its process ended with code {code}: {said[-1][:300]}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer


def serve(peer: Peer, requests: TextIO, answers: TextIO) -> None:
    """The child's side: measure by the request in each line, until the input ends."""
    print(json.dumps({"settings": peer.settings}), file=answers, flush=True)
    for line in requests:
        request = json.loads(line)
        if "prefill" in request:
            seconds = peer.prefill(request["prefill"])
        else:
            seconds = peer.decode(request["decode"], request["count"])
        answer = {
            "seconds": seconds,
            "bytes_per_token": peer.bytes_per_token,
            "peak_rss_mb": peak_rss_bytes() / 1e6,
        }
        print(json.dumps(answer), file=answers, flush=True)


def _load(engine: str, head: str, path: Path, threads: int, ffn: str, recipe: str) -> Peer:
    if engine in PEERS:
        return PEERS[engine].load()(path, threads)
    from shortlist.peers.own import Shortlist

    if head == "recipe":
        return Shortlist(path, threads, "auto", ffn=cast("Ffn", ffn), recipe=recipe)
    return Shortlist(path, threads, cast("HeadName", head), ffn=cast("Ffn", ffn))


def main(engine: str, head: str, path: str, threads: str, ffn: str = "auto", recipe: str = "") -> None:
    # Engines may print to standard output, so answers use a separate descriptor.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        serve(_load(engine, head, Path(path), int(threads), ffn, recipe), sys.stdin, answers)
    except ShortlistError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
