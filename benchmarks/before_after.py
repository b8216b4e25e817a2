"""What a change costs or gains: two commits are built, take turns, and ratios are printed.

Both commits are built in worktrees of their own, with the packages of the environment that runs this script
and with cache folders of their own, in which the models of the cache are linked. They are driven only through
what both have: `shortlist.load`, `shortlist fit` and `shortlist serve`. Parts:

    exactness   12 prompts, greedy and sampled three ways, 64 tokens, two models, dense and exact heads: the
                same tokens
    speed       tokens per second, in turns; load time and peak memory of the same processes
    server      eight requests at once, over HTTP

Takes about 40 minutes on 2 cores, which should have nothing else to do; `--quick` about ten. Prints Markdown,
and exits with 1 where tokens differ or a ratio is below what is asked of it.

    .venv/bin/python benchmarks/before_after.py OLD_COMMIT [--parts exactness speed server] [--quick]
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from serving import Cutter, even_load, free_port, running

from shortlist.measure.synthetic import SHAPES, synthetic
from shortlist.paths import cache_folder

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = ("exactness", "speed", "server")
REAL = ("smollm2-135m", "gemma-3-270m")
TEXT = (HERE / "data" / "shakespeare.txt").read_text(encoding="utf-8")
LEAST = 0.97  # of before, whatever the case
AT_ONCE = 8

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n",
    "Once upon a time, in a village by the sea,",
    "Write a haiku about rust.",
    "1, 2, 3, 4,",
    "Dear Sir or Madam,",
    "La tour Eiffel est",
    '{"name": "Ada", "born":',
    "Explain why the sky is blue.",
    "Zwei Dinge erfüllen das Gemüt",
    "The quick brown fox",
    "\n\n# Installation\n",
)
SAMPLINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 1, "seed": 7},
    {"temperature": 0.8, "top_p": 0.9, "seed": 11},
    {"temperature": 1.3, "top_k": 40, "seed": 3},
)


@dataclass(frozen=True)
class Case:
    """A model, how it is loaded, and the least ratio of its speed to before."""

    model: str
    options: dict[str, Any]
    least: float = LEAST

    def __str__(self) -> str:
        return " ".join([self.model, *(f"{key} {value}" for key, value in self.options.items())])


CASES = (
    *(Case(model, {"head": head}) for model in REAL for head in ("dense", "exact")),
    Case("smollm2-135m", {"head": "estimated"}),
    Case("gemma-3-270m", {"head": "estimated"}, 1.1),
    Case("llama-1b-q4_0", {"head": "dense"}),
    Case("olmoe-q4_0", {"head": "dense"}),
    Case("llama-1b-relu-8", {"head": "dense", "ffn": "exact"}),
)
SERVED = {"smollm2-135m": LEAST, "gemma-3-270m": 1.5}


class Side:
    """One commit, built, with its own cache folder."""

    def __init__(self, commit: str, folder: Path):
        sha = git("rev-parse", "--short=12", f"{commit}^{{commit}}")
        self.name = f"{commit} ({sha})"
        self.tree = folder / sha
        self.home = folder / f"home-{sha}"
        self.python = self.tree / ".venv" / "bin" / "python"
        if not (self.tree / "built").exists():
            self._build(sha)
        models = self.home / "models"
        models.mkdir(parents=True, exist_ok=True)
        for model in (cache_folder() / "models").iterdir():
            if not (models / model.name).is_symlink():
                (models / model.name).symlink_to(model)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SHORTLIST_HOME": str(self.home), "PYTHONPATH": ""}

    def _build(self, sha: str) -> None:
        say(f"building {self.name}")
        if self.tree.exists():
            git("worktree", "remove", "--force", str(self.tree))
        git("worktree", "prune")
        git("worktree", "add", "--quiet", "--detach", str(self.tree), sha)
        make = ROOT / "scripts" / "shared_venv.py"
        run([sys.executable, str(make), str(self.tree / ".venv"), str(self.tree)])
        (self.tree / "built").touch()

    def fit(self, model: str) -> None:
        """Fit the estimated head, if this side has not yet."""
        stamp = self.home / f"fitted-{model}"
        if not stamp.exists():
            say(f"fitting {model} with {self.name}")
            run([str(self.python), "-m", "shortlist", "fit", model, "--json"], env=self.environment)
            stamp.touch()

    @contextmanager
    def worker(self) -> Iterator["Worker"]:
        """A process that holds one model."""
        command = [str(self.python), str(HERE / "one_side.py")]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=self.environment, cwd=self.home, **pipes) as process:
            try:
                worker = Worker(process)
                where = worker("where")["file"]
                if not Path(where).is_relative_to(self.tree):
                    raise SystemExit(f"{self.name} imports {where}: remove {self.tree} and start again")
                yield worker
            finally:
                process.kill()


class Worker:
    """The caller's end of `one_side.py`."""

    def __init__(self, process: subprocess.Popen):
        self._process = process

    def __call__(self, do: str, **request: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"do": do, **request}) + "\n")
            stdin.flush()
            return json.loads(stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise SystemExit(f"{do} failed: what the worker said is above") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("old", metavar="OLD_COMMIT")
    parser.add_argument("--new", default="HEAD", help="commit to compare with it")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    parser.add_argument("--rounds", type=int, help="turns of each side")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--quick", action="store_true", help="fewer prompts and rounds, no large models")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "before_after", help="what is built")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (5 if arguments.quick else 11)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sides = [Side(commit, arguments.folder.resolve()) for commit in (arguments.old, arguments.new)]
    print(f"Before: {sides[0].name}; after: {sides[1].name}; {os.cpu_count()} cores.\n", flush=True)
    measures = {"exactness": exactness, "speed": speed, "server": server}
    reached = [measures[part](sides, arguments) for part in PARTS if part in arguments.parts]
    sys.exit(not all(reached))


def exactness(sides: Sequence[Side], arguments: argparse.Namespace) -> bool:
    """Print where tokens differ; True where none do."""
    prompts = PROMPTS[::4] if arguments.quick else PROMPTS
    count = 24 if arguments.quick else 64
    print(
        "| model | head | texts | tokens | texts that differ |\n| --- | --- | --- | --- | --- |", flush=True
    )
    same = True
    for model in REAL:
        for head in ("dense", "exact"):
            if arguments.only not in f"{model} head {head}":
                continue
            texts = []
            for side in sides:
                with side.worker() as worker:
                    worker("load", model=model, head=head, threads=arguments.threads)
                    texts.append(
                        {
                            (prompt, json.dumps(sampling)): worker(
                                "generate", prompt=prompt, max_tokens=count, **sampling
                            )["tokens"]
                            for prompt in prompts
                            for sampling in SAMPLINGS
                        }
                    )
            before, after = texts
            differ = [key for key in before if before[key] != after[key]]
            for key in differ[:3]:
                at = next(
                    (
                        i
                        for i, pair in enumerate(zip(before[key], after[key], strict=False))
                        if len({*pair}) > 1
                    ),
                    min(len(before[key]), len(after[key])),
                )
                say(f"{model}, {head}: {key} differs from token {at} on")
            tokens = sum(map(len, before.values()))
            print(f"| {model} | {head} | {len(before)} | {tokens} | {len(differ)} |", flush=True)
            same &= not differ
    print()
    return same


def speed(sides: Sequence[Side], arguments: argparse.Namespace) -> bool:
    """Print tokens per second, load time and peak memory of every case; True where all ratios suffice."""
    cases = [case for case in CASES if arguments.only in str(case)]
    if arguments.quick:
        cases = [case for case in cases if case.model in REAL]
    print(
        "| case | decode, tokens/s | ratio | prefill, tokens/s | ratio | load, s | ratio | peak, MB | ratio "
        "| |\n|" + " --- |" * 10,
        flush=True,
    )
    decode: dict[str, float] = {}
    reached = True
    for case in cases:
        rows = measured(case, sides, arguments)
        if rows is None:
            print(f"| {case} | not measured: a side failed | | | | | | | | |", flush=True)
            reached = False
            continue
        ratios = {
            key: median(after / before for before, after in zip(*values, strict=True))
            for key, values in rows.items()
        }
        enough = ratios["decode"] >= case.least and ratios["prefill"] >= LEAST
        enough &= ratios["load"] <= 1 / LEAST and ratios["peak"] <= 1 / LEAST
        decode[str(case)] = median(rows["decode"][1])
        cells = []
        for key, values in rows.items():
            digits = 2 if key == "load" else 1
            cells += [" → ".join(f"{median(side):.{digits}f}" for side in values), f"{ratios[key]:.3f}"]
        print("|", " | ".join([str(case), *cells, "" if enough else "**falls short**"]), "|", flush=True)
        reached &= enough
    exact, dense = (decode.get(f"smollm2-135m head {head}") for head in ("exact", "dense"))
    if exact and dense:
        print(f"\nThe exact head of SmolLM2 decodes {exact / dense:.3f} times as fast as the dense one.")
        reached &= exact >= LEAST * dense
    print(flush=True)
    return reached


def measured(
    case: Case, sides: Sequence[Side], arguments: argparse.Namespace
) -> dict[str, list[list[float]]] | None:
    """For each figure and side the values of all rounds; None where a side cannot run the case."""
    model = case.model
    if case.model in SHAPES:
        say(f"{case.model}: written to the cache folder, if it is not there")
        model = str(synthetic(case.model))
    elif case.options["head"] == "estimated":
        for side in sides:
            side.fit(case.model)
    rows: dict[str, list[list[float]]] = {key: [[], []] for key in ("decode", "prefill", "load", "peak")}
    load = {"model": model, "threads": arguments.threads, **case.options}
    for turn in range(3):  # load time: in processes of their own; the first turn fills the page cache
        for number in in_turn(turn):
            with sides[number].worker() as worker:
                seconds = worker("load", **load)["seconds"]
            if turn:
                rows["load"][number].append(seconds)
    with ExitStack() as stack:
        workers = [stack.enter_context(side.worker()) for side in sides]
        for worker in workers:
            worker("load", **load)
        for turn in range(arguments.rounds):
            # Another prompt in every turn: what an engine keeps of the one before must not help.
            start = 4000 * turn + 17
            long = workers[1]("encode", text=TEXT[start : start + 3000])["tokens"][:384]
            for number in in_turn(turn):
                answer = workers[number]("generate", prompt=long, max_tokens=1, temperature=0)
                rows["prefill"][number].append(len(long) / answer["seconds"])
            for number in in_turn(turn):
                answer = workers[number]("generate", prompt=long[64:80], max_tokens=64, temperature=0)
                rows["decode"][number].append(len(answer["tokens"]) / answer["seconds"])
        for number, worker in enumerate(workers):
            rows["peak"][number].append(worker("peak")["mb"])
    return rows


def server(sides: Sequence[Side], arguments: argparse.Namespace) -> bool:
    """Print tokens per second of one and of eight requests at once; True where the ratios suffice."""
    print("| model | requests | tokens/s | ratio | |\n| --- | --- | --- | --- | --- |", flush=True)
    reached = True
    for model, least in SERVED.items():
        if arguments.only not in f"{model} server":
            continue
        with sides[1].worker() as worker:
            worker("load", model=model, head="dense")
            tokens = worker("encode", text=TEXT[:200_000])["tokens"]
        with ExitStack() as stack:
            ports = []
            for side in sides:
                port = free_port()
                command = [str(side.python), "-m", "shortlist", "serve", model, "--name", "served"]
                command += ["--context", "2048", "--port", str(port)]
                command += ["--threads", str(arguments.threads)] if arguments.threads else []
                stack.enter_context(running(command, port, env=side.environment))
                ports.append(port)
            for count in (1, AT_ONCE):
                cut = Cutter(tokens)
                values: list[list[float]] = [[], []]
                for turn in range(arguments.rounds):
                    for number in in_turn(turn):
                        values[number].append(even_load(ports[number], cut, count))
                ratio = median(after / before for before, after in zip(*values, strict=True))
                asked = least if count == AT_ONCE else LEAST
                change = " → ".join(f"{median(side):.1f}" for side in values)
                verdict = "" if ratio >= asked else f"**below {asked}**"
                print(f"| {model} | {count} | {change} | {ratio:.3f} | {verdict} |", flush=True)
                reached &= ratio >= asked
    print()
    return reached


def in_turn(turn: int) -> tuple[int, int]:
    """Who is first changes with every turn."""
    return (0, 1) if turn % 2 == 0 else (1, 0)


def git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def run(command: Sequence[str], **options: Any) -> None:
    """Run a command; where it fails, say so and stop."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
