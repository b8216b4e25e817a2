"""Run tests and the fuzzer with a native module that a sanitizer watches.

    python scripts/sanitize.py address [--seconds 300] [--smoke]   memory, and what C++ leaves undefined
    python scripts/sanitize.py thread [--seconds 300]              races between threads

The module is built into build/sanitize/ with an environment of its own that shares this one's packages. Exits
with the first status that is not 0.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SANITIZERS = {"address": "address,undefined", "thread": "thread"}
TESTS = [
    "tests/native",
    "tests/index",
    "tests/sites",
    "tests/model/test_decoder.py",
    "tests/engine/test_batch.py",
]
SMOKE = ["tests/native/test_boundary.py", "tests/native/test_rows.py"]
OPTIONS = {
    # Python itself frees little at its end, and refusing what is too large is the module's work.
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"suppressions={ROOT}/scripts/thread_suppressions.txt:halt_on_error=1:exitcode=66",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=SANITIZERS)
    parser.add_argument("--seconds", type=float, default=300.0, help="time of the fuzzer")
    parser.add_argument("--smoke", action="store_true", help="only the tests of the boundary")
    parser.add_argument("tests", nargs="*", help="instead of the native tests")
    arguments = parser.parse_args()
    folder = ROOT / "build" / "sanitize" / arguments.kind
    python = build(folder, SANITIZERS[arguments.kind])
    tests = arguments.tests or (SMOKE if arguments.smoke else TESTS)
    environment = watched(arguments.kind)
    # Address-space randomization may take the places where the thread sanitizer keeps its shadow.
    start = ["setarch", "-R"] if arguments.kind == "thread" and shutil.which("setarch") else []
    run = [*start, str(python)]
    check(
        [*run, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", *tests], environment
    )
    if arguments.seconds and not arguments.smoke:
        check([*run, "scripts/fuzz.py", "--seconds", str(arguments.seconds)], environment)


def build(folder: Path, sanitizers: str) -> Path:
    """The Python of an environment whose native module is watched."""
    options = [
        "--editable",
        f"-Ccmake.define.SHORTLIST_SANITIZE={sanitizers}",
        "-Ccmake.build-type=RelWithDebInfo",
    ]
    options.append(f"-Cbuild-dir={folder / 'cmake'}")
    check([sys.executable, str(ROOT / "scripts" / "shared_venv.py"), str(folder), str(ROOT), *options])
    return folder / "bin" / "python"


def watched(kind: str) -> dict[str, str]:
    """The environment of a process whose interpreter was built without: the library must come first."""
    libraries = {"address": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}[kind]
    compiler = os.environ.get("CXX", "g++")
    paths = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in (*libraries, "libstdc++.so")  # it throws the exceptions that the library looks into
    ]
    return {**os.environ, **OPTIONS, "LD_PRELOAD": " ".join(paths), "PYTHONMALLOC": "malloc"}


def check(command: list[str], environment: dict[str, str] | None = None) -> None:
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status != 0:
        sys.exit(status if status > 0 else 1)


if __name__ == "__main__":
    main()
