"""Commands and servers with vLLM, forked from one process that has imported it.

``python -m tests.vllm_forks`` reads lines of JSON. To start something it forks, so that
nothing is imported twice: that takes ten seconds of each process, and vLLM has two or
three. Those that vLLM starts are forks too, as on a GPU, or new ones, as on a CPU.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

__all__ = ["VllmForks"]

ROOT = Path(__file__).parents[1]
SERVER = "vllm.entrypoints.openai.api_server"


class VllmForks:
    """The process that forks; it begins when it is first asked to."""

    def __init__(self):
        self._process = None

    def start(
        self,
        program,
        arguments,
        said,
        *,
        printed=os.devnull,
        spawn=False,
        **environment,
    ):
        """Start ``classify`` or vLLM's server, in a group of its own.

        Parameters
        ----------
        program : {"classify", "server"}
        arguments : sequence
        said, printed : path
            Files to which it adds what it writes to stderr and stdout.
        spawn : bool
            Whether the processes of vLLM are new ones, not forks.
        **environment : str

        Returns
        -------
        Forked
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.vllm_forks"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "COLUMNS": "80",
                    # What `classify` sets before it imports vLLM.
                    "VLLM_LOGGING_LEVEL": "ERROR",
                    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        if not spawn:
            environment["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        texts = [str(each) for each in (said, printed, *arguments)]
        return Forked(self, self.ask(program, texts, environment))

    def ask(self, *request):
        """Send a request; return the answer."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self):
        """End it; what it started must have ended."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            assert self._process.wait() == 0


class Forked:
    """What was started: its process id, and its exit code when it has ended."""

    def __init__(self, forks, pid):
        self._forks, self.pid, self._code = forks, pid, None

    def poll(self):
        """Return the exit code; None while it runs."""
        if self._code is None:
            self._code = self._forks.ask("ended", self.pid, os.WNOHANG)
        return self._code

    def wait(self):
        """Wait for the end; return the exit code."""
        if self._code is None:
            self._code = self._forks.ask("ended", self.pid, 0)
        return self._code


def _serve():
    _import_all()
    for line in sys.stdin:
        request = json.loads(line)
        if request[0] == "ended":
            pid, status = os.waitpid(*request[1:])
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                break
        print(json.dumps(answer), flush=True)
    else:
        return
    _run(*request)


def _import_all():
    for name in (
        SERVER,
        "vllm.entrypoints.llm",
        "vllm.model_executor.models.llama",
        "vllm.v1.executor.multiproc_executor",
        "vllm.v1.worker.cpu_worker",
        "classify.cli",
        "classify.engines.vllm.engine",
        "classify.engines.vllm.selftest",
        "classify.engines.vllm.worker",
    ):
        importlib.import_module(name)


def _run(program, texts, environment):
    said, printed, *arguments = texts
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, printed), (2, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(environment)
    if "VLLM_WORKER_MULTIPROC_METHOD" in environment:
        from vllm.envs import enable_envs_cache

        # vLLM asks for new processes on a CPU, unless it has read the variable before.
        enable_envs_cache()
    sys.argv = [program, *arguments]
    if program == "classify":
        from classify.cli import main

        main()
    else:
        runpy.run_module(SERVER, run_name="__main__")


if __name__ == "__main__":
    _serve()
