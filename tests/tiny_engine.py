"""An engine of a folder of its own, as small as one can be: a model that is a hash.

With one entry in the registry it is an engine like any other, see `registered`.
"""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from typer.testing import CliRunner

from classify.engines import BaseEngine, FakeEngine, registry
from classify.engines.kinds import (
    NO_SPECULATION,
    EngineKind,
    EngineOption,
    Verdict,
)
from classify.parameters import at_least, instance_of
from classify.tokenizer import load_tokenizer

_FIXED = "{which} has no choice of {setting}: leave {setting} out."


class TinyEngine(BaseEngine):
    """Answers with a `FakeEngine`, and inherits the rest of the protocol."""

    name = "tiny"

    def __init__(self, next_logprobs, vocab_size, **options):
        self._engine = FakeEngine.from_function(next_logprobs, vocab_size, **options)
        self.vocab_size, self.window = vocab_size, self._engine.window
        self.context_length = self._engine.context_length

    @classmethod
    def load(
        cls,
        model,
        *,
        batch_size="auto",
        trust_remote_code=False,
        revision=None,
        sharpness=2.0,
        patient=True,
        seed_model=0,
    ):
        vocab_size = len(load_tokenizer(model, revision=revision).backend)
        tables = sharpness * np.random.default_rng(seed_model).standard_normal(
            (61, vocab_size)
        )
        tables -= np.logaddexp.reduce(tables, axis=1)[:, None]
        window = 8 if batch_size == "auto" else batch_size
        return cls(
            lambda token_ids: tables[sum(token_ids) % len(tables)],
            vocab_size,
            context_length=500,
            window=window,
        )

    def submit(self, request):
        return self._engine.submit(request)

    def poll(self):
        return self._engine.poll()

    def close(self):
        self._engine.close()
        self.closed = True


KIND = EngineKind(
    name="tiny",
    title="the tiny engine",
    engine="tests.tiny_engine:TinyEngine",
    models="a folder with a tokenizer",
    options=(
        EngineOption("sharpness", at_least(0), "How sure the model is."),
        EngineOption(
            "patient",
            instance_of("a boolean", bool),
            "Changes nothing.",
            changes_values=False,
        ),
        EngineOption(
            "seed_model",
            at_least(0, whole=True),
            "Which model it is.",
            selects=True,
        ),
    ),
    refused={"dtype": _FIXED, "device": _FIXED, "speculation": NO_SPECULATION},
    packages=("numpy",),
    suits=lambda model, _: Verdict(str(model).endswith("-tiny"), "the name says so"),
)


@contextmanager
def registered():
    """Be one of the engines while the context lasts."""
    registry.KINDS["tiny"] = "tests.tiny_engine"
    try:
        yield
    finally:
        del registry.KINDS["tiny"]


class Outcome(NamedTuple):
    """What became of a command."""

    code: int
    stdout: str
    stderr: str


class TinyCommands:
    """Runs `classify` where the tiny engine is one of the engines; a context.

    The options of commands are made when they are imported, so that they run in a
    process of their own: one for all, one command after the other.
    """

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tiny_engine"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait() == 0

    def run(self, *arguments, **environment):
        """Run a command; return its outcome."""
        asked = [[str(each) for each in arguments], environment]
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        return Outcome(*json.loads(self._process.stdout.readline()))


def _serve():
    from classify.cli import app

    for line in sys.stdin:
        arguments, environment = json.loads(line)
        done = CliRunner().invoke(app, arguments, env=environment)
        outcome = Outcome(done.exit_code, done.stdout, done.stderr)
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    # As a line of the registry would: before the options of commands are made.
    with registered():
        _serve()
