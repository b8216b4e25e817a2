"""Throw damaged files at the readers, and odd arguments at the native module, for a given time.

    python scripts/fuzz.py [--seconds 300] [--seed N] [--part headers|bindings]

A file must be read or refused with a `ShortlistError`; a call must return or raise one of the errors below.
Anything else, and a process that dies, is a finding: it is printed with the case, which the same seed makes
again. Runs under `scripts/sanitize.py`, so that what is read outside an array dies too.
"""

import argparse
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from shortlist import _native
from shortlist.checkpoints import open_checkpoint
from shortlist.errors import ShortlistError
from shortlist.measure import synthetic
from shortlist.model.decoder import Decoder

REFUSALS = (TypeError, ValueError, OverflowError, IndexError, MemoryError, KeyError, _native.NotFinite)
# Addresses of functions, time that is waited, memory that is measured: nothing to do with what is checked.
LEFT_OUT = {"hold_pool", "fail_in_thread", "read_bandwidth_gb_s", "set_threads", "Crowd", "Workers"}
NUMBERS = (-1, 0, 1, 2, 3, 4, 7, 8, 16, 31, 32, 33, 64, 96, 128, 256)
EXTREMES = (-(2**63), -(2**31) - 1, -(2**31), 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1)
WIDTHS = (0, 1, 2, 31, 32, 33, 64, 64, 64, 96, 128, 256)
STRINGS = (
    "",
    "a",
    "b",
    "é",
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q4_0",
    "Q4_K",
    "q8",
    "q4",
    "silu",
    "relu",
    "gelu_tanh",
)
BATCH = 20  # seconds after which a new process begins: what was found in one hides nothing in the next


# ---- bindings -----------------------------------------------------------------------------------------


def signatures() -> Iterator[tuple[str, Callable, list[tuple[str, str, bool, bool]]]]:
    """Each callable: its name, itself, and its parameters (name, type, keyword only, optional)."""
    for name, value in vars(_native).items():
        if name in LEFT_OUT or name.startswith("_"):
            continue
        members = [(name, value)] if not isinstance(value, type) else list(vars(value).items())
        for member, function in members:
            for signature, *_ in getattr(function, "__nb_signature__", ()):
                label = name if value is function else f"{name}.{member}"
                if member == "__init__":
                    yield label, value, list(parameters(signature))
                else:
                    yield (
                        label,
                        getattr(value, member) if value is not function else value,
                        list(parameters(signature)),
                    )


def parameters(signature: str) -> Iterator[tuple[str, str, bool, bool]]:
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    only = False
    for part in re.split(r", (?![^\[(]*[\])])", inside):
        if part in ("*", "/", ""):
            only |= part == "*"
            continue
        name, _, rest = part.partition(": ")
        kind, _, default = rest.partition(" = ")
        if name == "self":
            kind = "self"
        yield name, kind, only, bool(default)


class Arguments:
    """Makes arguments of the types that signatures name, mostly right ones, and keeps what calls return."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.made: dict[str, list[Any]] = {}
        for cols in (32, 64, 64, 96, 256):
            for rows in (1, 8, 40, 64):
                for format in ("", "q8", "q4"):
                    data = (
                        self.numpy.normal(0, 0.1, (rows, cols)).astype(np.float32).view(np.uint8).reshape(-1)
                    )
                    self.keep(
                        _native.Rows.pack(data, "F32", rows, cols, format, tiled=self.random.random() < 0.5)
                    )

    def keep(self, value: Any) -> None:
        """Remember an object of the module for later calls."""
        if type(value).__module__ == _native.__name__:
            found = self.made.setdefault(type(value).__name__, [])
            found.append(value)
            if len(found) > 60:
                found.pop(self.random.randrange(len(found)))

    def of(self, kind: str, owner: str = "") -> Any:
        """An argument for a parameter of this type."""
        draw = self.random
        if draw.random() < 0.04:
            return draw.choice([None, "x", -1, 2**63, 1e300, [], {}, object(), np.zeros(3), float("nan")])
        if " | None" in kind:
            kind = kind.replace(" | None", "")
            if draw.random() < 0.4:
                return None
        if kind == "self":
            kind = f"shortlist._native.{owner}"
        if kind.startswith(("ndarray", "numpy.ndarray")):
            return self.array(kind)
        if kind.startswith("shortlist._native."):
            found = self.made.get(kind.rpartition(".")[2])
            return draw.choice(found) if found else None
        if match := re.fullmatch(r"(?:collections\.abc\.Sequence|list)\[(.*)\]", kind):
            return [self.of(match[1]) for _ in range(draw.choice((0, 1, 1, 2, 3, 16, 40)))]
        simple: dict[str, Callable[[], Any]] = {
            "int": lambda: draw.choice(EXTREMES) if draw.random() < 0.1 else draw.choice(NUMBERS),
            "float": lambda: draw.choice((0.0, 1.0, 0.5, -1.0, 1e-5, 5.0, 1e38, float("inf"), float("nan"))),
            "bool": lambda: draw.random() < 0.5,
            "str": lambda: draw.choice(STRINGS),
            "dict": self.named,
            "list": lambda: [
                tuple(self.of("shortlist._native.Rows") for _ in range(3))
                for _ in range(draw.choice((0, 1, 3)))
            ],
            "tuple": lambda: tuple(self.of("shortlist._native.Rows") for _ in range(draw.choice((2, 3, 3)))),
        }
        return simple[kind]() if kind in simple else None

    def named(self) -> dict[str, Any]:
        """Matrices, vectors or inputs by the names of a layer's tensors."""
        draw = self.random
        names = (
            "q",
            "k",
            "v",
            "o",
            "gate",
            "up",
            "down",
            "attention_norm",
            "ffn_norm",
            "q_norm",
            "k_norm",
            "q_bias",
        )
        kind = draw.choice(
            (
                "shortlist._native.Rows",
                "vector",
                "shortlist._native.Channels",
                "shortlist._native.ChannelInput",
            )
        )
        if kind == "vector":
            kind = "ndarray[dtype=float32, shape=(*)"
        return {name: self.of(kind) for name in names if draw.random() < 0.8}

    def array(self, kind: str) -> Any:
        """An array of the type and number of axes, or nearly."""
        draw = self.random
        dtype = (re.search(r"dtype=(\w+)", kind) or ["", "float32"])[1]
        axes = len((re.search(r"shape=\(([^)]*)\)", kind) or ["", "*"])[1].split(","))
        if draw.random() < 0.04:
            dtype = draw.choice(("float64", "int32", "uint8", "int64"))
        if draw.random() < 0.04:
            axes = draw.choice((0, 1, 2, 3))
        shape = [draw.choice(WIDTHS) for _ in range(axes)]
        if np.dtype(dtype).kind == "f":
            array = self.numpy.normal(0, 1, shape).astype(dtype)
            if array.size and draw.random() < 0.1:
                array.flat[draw.randrange(array.size)] = draw.choice((np.nan, np.inf, 1e38))
        else:
            limits = np.iinfo(dtype)
            low, high = (limits.min, limits.max) if draw.random() < 0.1 else (0, draw.choice((2, 8, 40, 100)))
            array = self.numpy.integers(low, high, shape, dtype=dtype)
        if axes and draw.random() < 0.05:
            array = np.repeat(array, 2, axis=-1)[..., ::2]  # not contiguous
        if draw.random() < 0.05:
            array.flags.writeable = False
        return array


def fuzz_bindings(seed: int, until: float, note: Callable[[str], None]) -> tuple[int, int]:
    """Call everything with drawn arguments; returns how many were accepted, and how many there were."""
    arguments, calls = Arguments(seed), list(signatures())
    accepted = number = 0
    while time.monotonic() < until:
        number += 1
        label, function, wanted = arguments.random.choice(calls)
        positional, named = [], {}
        for name, kind, only, optional in wanted:
            if kind == "self" and function is getattr(_native, label.partition(".")[0]):
                continue  # made by the class
            if optional and arguments.random.random() < 0.5:
                continue
            value = arguments.of(kind, label.partition(".")[0])
            if only or named or optional:
                named[name] = value
            else:
                positional.append(value)
        note(f"{label}({described(positional)}, {described(named)})")
        try:
            result = function(*positional, **named)
        except REFUSALS:
            continue
        accepted += 1
        for value in result if isinstance(result, tuple | list) else (result,):
            arguments.keep(value)
    return accepted, number


def described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {list(value.shape)} from {value.strides}>"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {described(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(described, value)) + "]"
    sizes = [
        f"{name}={getattr(value, name)}"
        for name in ("rows", "cols", "inputs", "outputs")
        if hasattr(value, name)
    ]
    return f"<{type(value).__name__} {' '.join(sizes)}>" if sizes else f"{value!r:.60}"


# ---- headers ------------------------------------------------------------------------------------------


def whole_files(folder: Path) -> list[bytes]:
    """Small models that are read without complaint."""
    kinds = (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0)
    shapes = [
        synthetic.Shape(kind, layers=2, width=64, ffn_width=96, heads=2, vocab_size=512, **more)
        for kind in kinds
        for more in ({"kv_heads": 1}, {"kv_heads": 2, "experts": 4, "experts_per_token": 2})
    ]
    files = []
    for number, shape in enumerate(shapes):
        path = folder / f"{number}.gguf"
        synthetic.write(path, shape)
        use(path)
        files.append(path.read_bytes())
    return files


def use(path: Path) -> None:
    """Open, pack and run a model."""
    with open_checkpoint(path) as checkpoint:
        decoder = Decoder(checkpoint)
        if checkpoint.config.vocab_size and checkpoint.config.context_length >= 2:
            decoder.forward(np.zeros(2, np.int32), decoder.new_cache(2))


def damaged(draw: random.Random, data: bytes) -> bytes:
    """A file with a few bytes changed, mostly in its header, or cut."""
    changed = bytearray(data)
    header = len(data) if draw.random() < 0.1 else min(len(data), 9000)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at = draw.randrange(header)
        match draw.randrange(5):
            case 0:
                changed[at] = draw.randrange(256)
            case 1:
                changed[at] ^= 1 << draw.randrange(8)
            case 2:
                value = draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1))
                changed[at : at + 8] = value.to_bytes(8, "little")
            case 3:
                changed[at : at + 4] = draw.choice((0, 1, 255, 2**31 - 1, 2**32 - 1)).to_bytes(4, "little")
            case _:
                other = draw.randrange(header)
                changed[at : at + 8] = changed[other : other + 8]
    if draw.random() < 0.1:
        del changed[draw.randrange(len(changed)) :]
    return bytes(changed)


def fuzz_headers(seed: int, until: float, note: Callable[[str], None]) -> tuple[int, int]:
    """Read damaged files; returns how many were accepted, and how many there were."""
    draw = random.Random(seed)
    accepted = number = 0
    with tempfile.TemporaryDirectory(prefix="shortlist-fuzz-") as folder:
        files = whole_files(Path(folder))
        path = Path(folder, "damaged.gguf")
        while time.monotonic() < until:
            path.write_bytes(damaged(draw, draw.choice(files)))
            number += 1
            note(f"file {number} of this seed")
            try:
                use(path)
                accepted += 1
            except ShortlistError:
                pass
    return accepted, number


# ---- processes ----------------------------------------------------------------------------------------

PARTS = {"bindings": fuzz_bindings, "headers": fuzz_headers}


def child(part: str, seed: int, seconds: float, place: Path) -> None:
    """Fuzz in this process; `place` holds the latest case."""
    with place.open("wb", buffering=0) as file:

        def note(case: str) -> None:
            file.seek(0)
            file.write(f"{case}\n".encode(errors="replace")[:4000].ljust(4000))

        accepted, number = PARTS[part](seed, time.monotonic() + seconds, note)
    print(f"{part}, seed {seed}: {accepted} of {number} accepted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first batch")
    parser.add_argument("--part", choices=PARTS, help="else both in turn")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.part, arguments.seed, arguments.seconds, arguments.child)
    until, seed, findings = time.monotonic() + arguments.seconds, arguments.seed, 0
    while (left := until - time.monotonic()) > 1 or seed == arguments.seed:
        for part in [arguments.part] if arguments.part else PARTS:
            findings += not batch(part, seed, max(1.0, min(BATCH, left / 2)))
        seed += 1
    print(f"{findings} findings")
    sys.exit(findings > 0)


def batch(part: str, seed: int, seconds: float) -> bool:
    """Fuzz in a child; False where it died or an error of the wrong kind came out."""
    with tempfile.NamedTemporaryFile(prefix="shortlist-fuzz-") as place:
        command = [sys.executable, __file__, "--child", place.name, "--part", part]
        command += ["--seed", str(seed), "--seconds", str(seconds)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + 300)
        print(done.stdout, end="", flush=True)
        if done.returncode == 0:
            return True
        case = Path(place.name).read_text(errors="replace").strip()
        died = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
        print(f"FOUND ({died}) in {part}, seed {seed}: {case}\n{done.stderr[-3000:]}", flush=True)
        return False


if __name__ == "__main__":
    main()
