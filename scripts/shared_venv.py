"""Make an environment that shares the packages of this one, and install a checkout of this project into it.

Nothing is downloaded: the project is built with the tools that are installed, and its dependencies are found
in the folders that this Python uses.

    python scripts/shared_venv.py FOLDER CHECKOUT [--editable] [options of pip install]
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path


def main() -> None:
    folder, checkout, *options = sys.argv[1:]
    editable = "--editable" in options
    options = [option for option in options if option != "--editable"]
    python = Path(folder, "bin", "python")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": folder}))
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "zz_shared.pth").write_text("\n".join(shared) + "\n")
    environment = dict(os.environ)
    if shutil.which("ccache"):
        environment |= {"CMAKE_CXX_COMPILER_LAUNCHER": "ccache", "CCACHE_NOHASHDIR": "1"}
        environment["CCACHE_BASEDIR"] = str(Path(checkout).resolve())
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    # Installed here whatever the shared folders hold, and removed from none of them.
    command += ["--no-deps", "--no-build-isolation", "--ignore-installed", *options]
    command += ["--editable", checkout] if editable else [checkout]
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
