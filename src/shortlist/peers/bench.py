"""Compares engines in turns, on the same tokens, with the machine's read bandwidth."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from shortlist import _native
from shortlist.checkpoints import open_checkpoint
from shortlist.errors import UsageError
from shortlist.model.decoder import Ffn, thread_count
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.peers import PEERS, PeerError
from shortlist.peers.bench_worker import Worker

OWN = "shortlist"
HEADS = ("dense", "estimated", "exact")
RECIPE = "recipe"
NAMES = {
    "dense": "shortlist_dense",
    "estimated": "shortlist",
    "exact": "shortlist_exact",
    RECIPE: "shortlist_recipe",
}
"""Names in the ratios of shortlist with each head, and with a whole recipe."""

REQUEST = "Write a long story about a lighthouse keeper who finds a letter in a bottle after a storm."
PREFILL_TOKENS = 512


@dataclass(frozen=True)
class BenchOptions:
    """The options of a benchmark.

    Parameters
    ----------
    threads
        Number of threads of every engine; None: all cores that this process may use.
    peers
        Keys of `PEERS`.
    heads
        Heads of shortlist, from `HEADS`.
    ffn
        Option `ffn` of `shortlist.load`.
    recipe
        Folder of a recipe that is measured beside the heads.
    decode_tokens
        Tokens decoded in each repetition after a prompt of one sentence; end-of-text tokens are ignored.
    repetitions
        Number of rounds; every engine runs once in each. Medians are reported.

    Raises
    ------
    UsageError
        A value is out of range, or a peer is unknown.
    """

    threads: int | None = None
    peers: tuple[str, ...] = ()
    heads: tuple[str, ...] = HEADS
    ffn: Ffn = "auto"
    recipe: str | None = None
    decode_tokens: int = 128
    repetitions: int = 5

    def __post_init__(self) -> None:
        for peer in self.peers:
            if peer not in PEERS:
                raise UsageError(f"there is no peer {peer}: choose {', '.join(PEERS)}")
        if not 1 <= self.decode_tokens <= 1024:
            raise UsageError(f"the tokens to write must be from 1 to 1024, not {self.decode_tokens}")
        if self.repetitions < 1:
            raise UsageError(f"there must be at least 1 repetition, not {self.repetitions}")


@dataclass
class _Run:
    """One engine and its measurements so far."""

    engine: str
    head: str
    worker: Worker | None = None
    error: str = ""
    prefill_seconds: list[float] = field(default_factory=list)
    decode_seconds: list[float] = field(default_factory=list)
    latest: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return NAMES[self.head] if self.engine == OWN else self.engine

    def measure(self, prompt: Sequence[int], passage: Sequence[int], count: int) -> None:
        assert self.worker is not None
        self.prefill_seconds.append(self.worker.prefill(passage)["seconds"])
        self.latest = self.worker.decode(prompt, count)
        self.decode_seconds.append(self.latest["seconds"])


def measure(
    path: Path, options: BenchOptions, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure shortlist and its peers on one model.

    Parameters
    ----------
    path
        GGUF file or Hugging Face folder.
    options
    progress
        Called with the present activity.

    Returns
    -------
    dict
        `machine`, `runs` and `ratios`. A run that failed has `error` instead of figures. Bandwidths are in
        GB/s (1e9), memory in MB (1e6 bytes).

    Raises
    ------
    ShortlistError
        The model cannot be read, or its context is too short. The error of one engine is in its run.
    """
    prompt = prompt_tokens(path)
    passage = (prompt * PREFILL_TOKENS)[:PREFILL_TOKENS]
    _check_context(path, max(PREFILL_TOKENS, len(prompt) + options.decode_tokens))
    threads = thread_count(options.threads)
    own = [*options.heads, *([RECIPE] if options.recipe else [])]
    runs = [_Run(OWN, head) for head in own] + [_Run(peer, "dense") for peer in options.peers]
    read_gb_s = []
    with ExitStack() as stack:
        for run in runs:
            progress(f"loading {run.name}")
            try:
                worker = Worker(run.engine, run.head, path, threads, options.ffn, options.recipe)
                run.worker = stack.enter_context(worker)
                worker.decode(prompt, min(16, options.decode_tokens))  # warm-up: the first run is slower
            except PeerError as error:
                run.error = str(error)
        for repetition in range(options.repetitions):
            with _native.Workers(threads):
                read_gb_s.append(_native.read_bandwidth_gb_s())
            for run in runs:
                if run.error:
                    continue
                progress(f"round {repetition + 1} of {options.repetitions}: {run.name}")
                try:
                    run.measure(prompt, passage, options.decode_tokens)
                except PeerError as error:
                    run.error = str(error)
    machine_gb_s = median(read_gb_s)
    rows = {run.name: _row(run, options.decode_tokens, machine_gb_s) for run in runs}
    machine = {"read_gb_s": machine_gb_s, "threads": threads, "isa": _native.isa()}
    return {"machine": machine, "runs": list(rows.values()), "ratios": ratios(rows)}


def _check_context(path: Path, needed: int) -> None:
    with open_checkpoint(path) as checkpoint:
        longest = checkpoint.config.context_length
    if longest < needed:
        raise UsageError(f"{path} takes {longest} tokens at most, and bench needs {needed}")


def prompt_tokens(path: Path) -> list[int]:
    """Tokens of a request for a story, in the model's chat template where there is one."""
    with open_checkpoint(path) as checkpoint:
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
        if tokenizer.chat_template:
            return tokenizer.encode_chat([{"role": "user", "content": REQUEST}])
        return tokenizer.encode(REQUEST)


def ratios(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Ratios of decode speeds, and of prefill speeds under names that say so; heads do not affect prefill."""
    speed = {name: row["decode_tokens_per_s"] for name, row in rows.items() if "error" not in row}
    prefill = {name: row["prefill_tokens_per_s"] for name, row in rows.items() if "error" not in row}
    own = [name for name in NAMES.values() if name in speed]
    found = {
        f"{name}/{other}": speed[name] / speed[other]
        for other in speed
        if other in ("shortlist_dense", *PEERS)
        for name in own
        if name != other
    }
    dense = NAMES["dense"]
    if dense in prefill:
        found |= {
            f"{dense}/{other} prefill": prefill[dense] / prefill[other] for other in prefill if other in PEERS
        }
    return found


def _row(run: _Run, decode_tokens: int, machine_gb_s: float) -> dict[str, Any]:
    row: dict[str, Any] = {"engine": run.engine, "head": run.head}
    if run.error or run.worker is None:
        return row | {"error": run.error}
    tokens_per_s = decode_tokens / median(run.decode_seconds)
    return row | {
        "settings": run.worker.settings,
        "decode_tokens_per_s": tokens_per_s,
        "prefill_tokens_per_s": PREFILL_TOKENS / median(run.prefill_seconds),
        "bytes_per_token": run.latest["bytes_per_token"],
        "bandwidth_share": run.latest["bytes_per_token"] * tokens_per_s / (machine_gb_s * 1e9),
        "peak_rss_mb": run.latest["peak_rss_mb"],
    }
