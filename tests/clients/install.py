#!/usr/bin/env python3
"""Installs the callers of requirements.txt from PyPI, once, and prints the Python that has them.

    install.py FOLDER

The environment is FOLDER/callers. One that was installed from this very list is taken as it is; one whose install
was broken off is made anew. A lock keeps a second run out while the first is at it.
"""

import fcntl
import hashlib
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# It installs in seconds what takes pip two minutes.
INSTALLER = "uv==0.13.9"


def main():
    if sys.version_info < (3, 11):
        sys.exit(f"the callers need a Python of 3.11 or later, and this one is {sys.version.split()[0]}")
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock-callers", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            print(installed(folder / "callers"))
        except subprocess.CalledProcessError as error:
            sys.exit(f"{' '.join(error.cmd)} ended with {error.returncode}")


def installed(venv):
    python = venv / "bin" / "python3"
    stamp = venv / "installed-from"
    digest = hashlib.sha256()
    for source in (HERE / "requirements.txt", pathlib.Path(__file__)):
        digest.update(source.read_bytes())
    wanted = f"{digest.hexdigest()} {sys.version}"
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        run(sys.executable, "-m", "venv", "--clear", venv)
        run(python, "-m", "pip", "install", "--quiet", INSTALLER)
        # The list is whole, so nothing is to be resolved.
        requirements = ("--no-deps", "--requirement", HERE / "requirements.txt")
        run(venv / "bin" / "uv", "pip", "install", "--quiet", "--python", python, *requirements)
        stamp.write_text(wanted)
    return python


def run(*command):
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    # What is printed on the output is the answer alone.
    subprocess.run(list(map(str, command)), check=True, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)


if __name__ == "__main__":
    main()
