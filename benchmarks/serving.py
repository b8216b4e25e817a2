"""Serving claims: `shortlist serve` against llama.cpp's server on the same file, threads and requests.

Both servers run at once and are asked in turn, so that a change of the machine meets both. First tokens per
second with one request and with eight at a time; then a mixed load, in which long prompts come while other
texts are being written, for the time to the first token and between tokens. Prints Markdown for the
documentation and exits with 1 where a target is missed. llama.cpp's server is that of the package xllamacpp,
in the environment whose Python is named.

    .venv/bin/python benchmarks/serving.py smollm2-135m gemma-3-270m --peer-python .peers/bin/python
"""

import argparse
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from shortlist.checkpoints import open_checkpoint, resolve
from shortlist.model.tokenizer.tokenizer import Tokenizer

HERE = Path(__file__).parent
TEXT = HERE / "data" / "shakespeare.txt"
AT_ONCE = 8
OVER_ONE, OVER_PEER = 2.5, 1.5  # targets: times the tokens per second of one request, and of the peer
PROMPT, ANSWER = 64, 48  # tokens of the even load
LONG_PROMPT = 800  # of the mixed load, beside short ones
WAIT = 120.0


@dataclass
class Request:
    """When a request was sent (`time.perf_counter`), and after how many seconds each token came."""

    start: float
    times: list[float] = field(default_factory=list)

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--peer-python", help="of an environment with xllamacpp; else without the peer")
    parser.add_argument("--head", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--text", type=Path, default=TEXT, help="that prompts are cut from")
    arguments = parser.parse_args()
    reached = [measure(model, arguments) for model in arguments.models]
    sys.exit(not all(reached))


def measure(model: str, arguments: argparse.Namespace) -> bool:
    """Print the tables of one model; True where the targets are met."""
    path = resolve(model)
    with open_checkpoint(path) as checkpoint:
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
    tokens = tokenizer.encode(arguments.text.read_text(encoding="utf-8"), add_special=False)
    threads = str(arguments.threads)
    with ExitStack() as stack:
        ports = {"shortlist": free_port()}
        own = [sys.executable, "-m", "shortlist", "serve", str(path), "--name", "served", "--context", "2048"]
        own += ["--head", arguments.head, "--threads", threads, "--port", str(ports["shortlist"])]
        stack.enter_context(running(own, ports["shortlist"]))
        if arguments.peer_python:
            ports["llama-server"] = free_port()
            peer = [arguments.peer_python, str(HERE / "llama_server.py"), str(path), "--threads", threads]
            peer += ["--port", str(ports["llama-server"]), "--parallel", str(AT_ONCE)]
            stack.enter_context(running(peer, ports["llama-server"]))
        cut = Cutter(tokens)
        for port in ports.values():
            together([lambda port=port: ask(port, cut(PROMPT), 8)] * AT_ONCE)  # warm
        speeds: dict[tuple[str, int], list[float]] = {}
        mixed: dict[str, list[Request]] = {name: [] for name in ports}
        for _ in range(arguments.rounds):
            for count in (1, AT_ONCE):
                for name, port in ports.items():
                    speeds.setdefault((name, count), []).append(even_load(port, cut, count))
            for name, port in ports.items():
                mixed[name] += mixed_load(port, cut)
    best = {key: median(values) for key, values in speeds.items()}
    print(f"\n| {model}, tokens/s | one request | {AT_ONCE} at once | times one |\n| --- | --- | --- | --- |")
    for name in ports:
        one, many = best[name, 1], best[name, AT_ONCE]
        print(f"| {name} | {one:.0f} | {many:.0f} | {many / one:.2f} |")
    print("\n| mixed load, ms | first token, p50 | p95 | between tokens, p50 | p95 |")
    print("| --- | --- | --- | --- | --- |")
    for name, requests in mixed.items():
        first = [1e3 * seen.times[0] for seen in requests]
        gaps = [1e3 * gap for seen in requests for gap in seen.gaps]
        values = [percentile(first, 50), percentile(first, 95), percentile(gaps, 50), percentile(gaps, 95)]
        print(f"| {name} | " + " | ".join(f"{value:.0f}" for value in values) + " |")
    ratios = {
        f"{AT_ONCE} at once over one (target {OVER_ONE})": best["shortlist", AT_ONCE] / best["shortlist", 1]
    }
    met = [best["shortlist", AT_ONCE] / best["shortlist", 1] >= OVER_ONE]
    if arguments.peer_python:
        ratio = best["shortlist", AT_ONCE] / best["llama-server", AT_ONCE]
        ratios[f"over llama-server's (target {OVER_PEER})"] = ratio
        met.append(ratio >= OVER_PEER)
    print("\n" + "; ".join(f"{name}: {value:.2f}" for name, value in ratios.items()), flush=True)
    return all(met)


class Cutter:
    """Cuts prompts from a text, each from a place of its own, so that no start is shared."""

    def __init__(self, tokens: Sequence[int]):
        self._tokens = tokens
        self._at = 0
        self._lock = threading.Lock()

    def __call__(self, length: int) -> list[int]:
        with self._lock:
            if self._at + length > len(self._tokens):
                self._at = self._at % 97 + 1  # another offset: not the same prompts again
            start, self._at = self._at, self._at + length
        return list(self._tokens[start : start + length])


def even_load(port: int, cut: Cutter, count: int) -> float:
    """Tokens per second of `count` equal requests at once, from the first token of the last to start on."""
    seen = together([lambda: ask(port, cut(PROMPT), ANSWER)] * count)
    begin = max(each.start + each.times[0] for each in seen)
    end = min(each.start + each.times[-1] for each in seen)
    written = sum(begin < each.start + at <= end for each in seen for at in each.times)
    return written / (end - begin)


def mixed_load(port: int, cut: Cutter) -> list[Request]:
    """Four texts are being written while two long prompts and four short ones come."""

    def later(seconds: float, prompt: int, answer: int) -> Callable[[], Request]:
        def send() -> Request:
            time.sleep(seconds)
            return ask(port, cut(prompt), answer)

        return send

    writers = [later(0, PROMPT, 100)] * 4
    short = [later(0.3 + 0.3 * i, PROMPT, 16) for i in range(4)]
    return together([*writers, later(0.3, LONG_PROMPT, 8), later(0.9, LONG_PROMPT, 8), *short])


def together(requests: Sequence[Callable[[], Request]]) -> list[Request]:
    """Run all at once, one thread each."""
    answers: list[Request] = []
    threads = [threading.Thread(target=lambda send=send: answers.append(send())) for send in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    if len(answers) != len(requests) or not all(answer.times for answer in answers):
        raise SystemExit("a request failed or had no answer")
    return answers


def ask(port: int, prompt: Sequence[int], answer: int) -> Request:
    """Stream one greedy completion."""
    body = {"model": "served", "prompt": list(prompt), "max_tokens": answer, "temperature": 0, "stream": True}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    request = Request(time.perf_counter())
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        print(f"port {port}: {response.status} {response.read().decode()}", file=sys.stderr)
        return request
    for line in response:
        if line.startswith(b"data: {") and json.loads(line[6:])["choices"]:
            request.times.append(time.perf_counter() - request.start)
    connection.close()
    return request


@contextmanager
def running(command: Sequence[str], port: int, env: Mapping[str, str] | None = None) -> Iterator[None]:
    """A server, from when it answers until the end of the block."""
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=env) as server,
    ):
        try:
            deadline = time.monotonic() + WAIT
            while not answers(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{command[0]} did not start:\n{log.read().decode()[-2000:]}")
                time.sleep(0.2)
            yield
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(5)
            server.kill()


def answers(port: int) -> bool:
    """Whether a server is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` percent do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share / 100))]


if __name__ == "__main__":
    main()
