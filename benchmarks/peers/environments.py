"""Each peer's own environment, made on first use; and its process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def environment(folder: Path, name: str) -> Path:
    """Return the Python of peer `name`, in a virtual environment that has its packages.

    Parameters
    ----------
    folder : Path
        Where the environments are kept. One is made anew where it is missing or was
        made from other requirements.
    name : str
        A peer with a ``requirements-<name>.txt`` in this folder.

    Returns
    -------
    Path
        The interpreter.
    """
    requirements = HERE / f"requirements-{name}.txt"
    home = folder.resolve() / name
    python, made_from = home / "bin" / "python", home / requirements.name
    if made_from.exists() and made_from.read_text() == requirements.read_text():
        return python
    print(f"making {home} from {requirements.name}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    made_from.write_text(requirements.read_text())
    return python


class Process:
    """A contestant's process: the parent's end of the protocol in ``runner.py``.

    Parameters
    ----------
    python : Path
        The interpreter of its environment.
    script : str
        The runner in this folder.
    log : Path
        Where its stderr goes.
    threads : int
        Threads it may use.
    clock : {"wall", "cpu"}
        What it measures its seconds with.
    """

    def __init__(
        self, python: Path, script: str, log: Path, threads: int, clock: str
    ) -> None:
        self._log = log
        self._machine = {"threads": threads, "clock": clock}
        settings = {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [str(python), str(HERE / script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=os.environ | settings,
            )

    def load(self, model: Path, options: dict[str, Any]) -> dict[str, str]:
        """Load the model; return the versions of what runs it."""
        request = {"model": str(model), "options": options} | self._machine
        versions: dict[str, str] = self.ask({"load": request})["versions"]
        return versions

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            tail = "\n".join(self._log.read_text().splitlines()[-15:])
            raise RuntimeError(f"{self._log.stem} ended early. Its last lines:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let it end by closing its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
