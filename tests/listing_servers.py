"""Servers that list the likeliest tokens: llama.cpp's own, and small ones of our own.

llama.cpp's is real, from the wheel `xllamacpp`, in a process of its own. Ollama's and
LM Studio's cannot be had from a package index: those here speak what their public API
documentation shows (docs.ollama.com/api/generate, lmstudio.ai/docs), over a tokenizer
and a next-token function, and nothing more than the engine asks of them.
"""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from tests.serving import RefusedError, ServerProcess, SmallServer

_LLAMA = """
import sys, time
import xllamacpp

path, port, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
params = xllamacpp.CommonParams()
params.model.path = path
params.n_ctx, params.n_parallel = 1024 * slots, slots
params.cpuparams.n_threads = 1
params.warmup = False
params.hostnames, params.port = ["127.0.0.1"], port
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class LlamaServer(ServerProcess):
    """llama.cpp's server."""

    def __init__(self, model, log, *, slots=2):
        if find_spec("xllamacpp") is None:
            pytest.skip("needs xllamacpp: pip install xllamacpp")
        super().__init__()
        self._model, self._log, self._slots = model, log, slots

    def start(self):
        """Start it, on the same port as before."""
        command = [sys.executable, "-c", _LLAMA]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, str(self._model), str(self.port), str(self._slots)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                text=True,
            )
        address = self._process.stdout.readline().strip()
        if not address:
            self.kill()
            pytest.fail(f"llama.cpp did not start: {self._log.read_text()[-2000:]}")
        assert address.endswith(f":{self.port}")

    def kill(self):
        """Kill it at once."""
        process = self._process
        super().kill()
        if process is not None:
            process.stdin.close()
            process.stdout.close()


class _TextServer(SmallServer):
    """A server that reads text, over a `tokenizers.Tokenizer`.

    Parameters
    ----------
    next_logprobs, vocab_size
        See `SmallServer`.
    fast : tokenizers.Tokenizer
    adds_start : bool
        Whether it puts the tokenizer's first tokens before every text.
    max_listed : int
    sampled_values : bool
        Whether it shows, wrongly, the probabilities after sampling.
    eos : int or None
        The token of whose step it shows nothing.
    shown : callable
        What it shows of all tokens, which are pairs of id and value, likeliest first,
        if it is asked for so many.
    """

    def __init__(
        self,
        *of_model,
        fast,
        adds_start=False,
        max_listed=20,
        sampled_values=False,
        eos=None,
        shown=lambda listed, n_listed: listed[:n_listed],
        **options,
    ):
        super().__init__(*of_model, **options)
        self.shown = shown
        self.fast, self.adds_start = fast, adds_start
        self.max_listed, self.sampled_values = max_listed, sampled_values
        self.eos = eos

    def step(self, prompt, n_listed, sampling):
        """Return the ids of a prompt, the sampled token, and what is listed."""
        if not isinstance(prompt, str):
            raise RefusedError("prompt must be a string")
        if n_listed > self.max_listed:
            raise RefusedError(f"at most {self.max_listed} can be listed")
        ids = self.fast.encode(prompt, add_special_tokens=self.adds_start).ids
        row = self.next_logprobs(tuple(ids))
        order = np.argsort(-row, kind="stable")
        temperature = sampling.get("temperature", 0.8)
        token = int(order[0] if temperature == 0 else order[1])
        if self.sampled_values:
            kept = order[: 2 if "top_p" in sampling else 40]
            row = row - np.logaddexp.reduce(row[kept])
        listed = [(int(each), float(row[each])) for each in order]
        return ids, token, self.shown(listed, n_listed)

    def text_of(self, token):
        piece = self.fast.id_to_token(token)
        if "▁" in piece:
            return piece.replace("▁", " ")
        return self.fast.decode([token], skip_special_tokens=False)

    def element(self, token, value):
        text = self.text_of(token)
        return {"token": text, "logprob": value, "bytes": list(text.encode())}


class OllamaServer(_TextServer):
    """As much of Ollama as the engine uses, after its API documentation."""

    loaded_length = 4096

    def refused(self, said):
        return said

    async def _answer(self, path, head, body):
        if path == "/api/version":
            return 200, {}, {"version": "0.13.5"}
        if path == "/api/ps":
            loaded = [
                {"name": each, "model": each, "context_length": self.loaded_length}
                for each in self.models
            ]
            return 200, {}, {"models": loaded}
        if path == "/v1/models":
            cards = [{"id": each, "owned_by": "library"} for each in self.models]
            return 200, {}, {"object": "list", "data": cards}
        if path != "/api/generate":
            return 404, {}, b"404 page not found"
        return await self._completions(json.loads(body))

    def answer(self, asked):
        assert asked["raw"]
        assert asked["stream"] is False
        assert asked["options"]["num_predict"] == 1
        prompt, n_listed = asked["prompt"], asked["top_logprobs"]
        ids, token, listed = self.step(prompt, n_listed, asked["options"])
        ended = token == self.eos
        value = dict(listed).get(token, -1.0)
        step = self.element(token, value)
        step["top_logprobs"] = [self.element(*each) for each in listed]
        return {
            "model": asked["model"],
            "response": "" if ended else self.text_of(token),
            "done": True,
            "done_reason": "stop" if ended else "length",
            "prompt_eval_count": len(ids),
            "eval_count": 1,
            **({} if ended else {"logprobs": [step]}),
        }


class LmStudioServer(_TextServer):
    """As much of LM Studio's OpenAI-style API as the engine uses."""

    keyed = False  # whether it lists tokens as OpenAI's completions do: by their text

    async def _answer(self, path, head, body):
        if path == "/v1/models":
            cards = [{"id": each, "object": "model"} for each in self.models]
            return 200, {}, {"object": "list", "data": cards}
        if path != "/v1/completions":
            return 200, {}, {"error": f"Unexpected endpoint or method. ({path})"}
        return await self._completions(json.loads(body))

    def answer(self, asked):
        ids, token, listed = self.step(asked["prompt"], asked["logprobs"], asked)
        if self.keyed:
            by_text = {self.text_of(each): value for each, value in listed}
            logprobs = {"tokens": [self.text_of(token)], "top_logprobs": [by_text]}
        else:
            step = self.element(token, dict(listed).get(token, -1.0))
            step["top_logprobs"] = [self.element(*each) for each in listed]
            logprobs = {"content": [step]}
        return {
            "choices": [
                {
                    "index": 0,
                    "text": self.text_of(token),
                    "finish_reason": "length",
                    "logprobs": logprobs,
                }
            ],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": 1},
        }
