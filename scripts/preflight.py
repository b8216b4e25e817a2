"""Say in one line what this machine lacks to build shortlist, before anything is installed.

Written so that an old Python can still run it far enough to say that it is too old.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile

PROGRAM = "#include <filesystem>\nint main() { return std::filesystem::path{}.empty() ? 0 : 1; }\n"


def missing():
    """Return the line to print, or None when everything is here."""
    if sys.version_info < (3, 11):
        return (
            "shortlist needs Python 3.11 or newer and %s is %d.%d: install one and run make PYTHON=python3.12"
            % (sys.executable, sys.version_info[0], sys.version_info[1])
        )
    try:
        import ensurepip  # noqa: F401  (Debian ships Python without it)
        import venv  # noqa: F401
    except ImportError:
        return "%s cannot make environments: install its venv package (Debian: apt install python3-venv)" % (
            sys.executable
        )
    if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
        return (
            "the headers of %s are missing: install them (Debian: apt install python3-dev)" % sys.executable
        )
    named = os.environ.get("CXX")
    compiler = named or next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    if compiler is None:
        return "no C++ compiler found: install one (Debian: apt install g++, macOS: xcode-select --install)"
    if not compiles(compiler):
        return (
            "the C++ compiler `%s` does not compile C++17: install g++ 9 or clang 10, or newer, or set CXX"
            % compiler
        )
    return None


def compiles(compiler):
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "check.cpp")
        with open(source, "w") as file:
            file.write(PROGRAM)
        command = compiler.split() + ["-std=c++17", source, "-o", os.path.join(folder, "check")]
        try:
            return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
        except OSError:
            return False


if __name__ == "__main__":
    problem = missing()
    if problem:
        sys.exit("make: " + problem)
