"""Jobs without a model: a hash function answers, and can be told to fail or to stop."""

import csv
import io
import random
import re
from pathlib import Path

import pytest

from classify import PromptTemplate, ZeroShotClassifier
from classify.engines import FakeEngine
from classify.errors import DataError, EngineError
from classify.jobs import Classification, JobRun, RowColumns, open_table, run_job
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine, hashed_logprobs

ADDED = ["label", "probability", "label_mass", "unresolved", "truncated", "error"]
NO_TEXT = "there is no text: it is empty or missing."
NO_VISIBLE_TEXT = "there is no text: it has only invisible characters."


def make(labels=("billing", "shipping"), *, engine=None, **options):
    """Return a classifier; `engine` may be one of its own, else a hash function."""
    template = options.pop("template", "{text}\nTopic:")
    return ZeroShotClassifier(
        None if labels is None else list(labels),
        engine=hashed_engine(len(byte_level())) if engine is None else engine,
        tokenizer=byte_level(),
        prompt=PromptTemplate(template, chat=False),
        **options,
    )


def job_of(classifier=None, *, text="text", labels=None, **options):
    columns = RowColumns(text=text, labels=labels)
    return Classification(classifier=classifier or make(), columns=columns, **options)


def run(source, output, job=None, *, reading=None, **options):
    """Run a job over a file; what `JobRun` knows may stand among the options."""
    names = JobRun.__dataclass_fields__.keys() & options.keys()
    settings = JobRun(**{name: options.pop(name) for name in names})
    table = open_table(source, **(reading or {}))
    return run_job(job or job_of(), table, output, run=settings, **options)


def dying_engine(text, **options):
    """Return an engine that fails when it is asked about a text."""
    next_logprobs = hashed_logprobs(len(byte_level()))

    def dying(token_ids):
        if text in byte_level().decode(token_ids):
            raise EngineError("The engine died.")
        return next_logprobs(token_ids)

    return FakeEngine.from_function(dying, len(byte_level()), **options)


def asked(engine):
    """Return the texts that an engine was asked to begin with, in order."""
    prompts = [
        byte_level().decode(request.prompt_token_ids)
        for request in engine.requests
        if 0 in getattr(request, "nodes", (0,))
    ]
    return [each.removeprefix("<|bos|>").removesuffix("\nTopic:") for each in prompts]


class ScatteredEngine:
    """Gives another engine's answers some at a time and in any order, as servers do.

    One text may be held back: until nobody waits for anything else.
    """

    name = "fake"
    asynchronous = True

    def __init__(self, engine, seed, *, window=4, held=None):
        self._engine, self._random, self._held = engine, random.Random(seed), held
        self._answers, self._held_tickets = {}, set()
        self.window, self.requests = window, engine.requests
        self.vocab_size, self.context_length = engine.vocab_size, engine.context_length

    def submit(self, request):
        ticket = self._engine.submit(request)
        prompt = byte_level().decode(request.prompt_token_ids)
        if self._held is not None and self._held in prompt:
            self._held_tickets.add(ticket)
        return ticket

    def poll(self):
        while answers := self._engine.poll():
            self._answers |= {each.ticket: each for each in answers}
        free = [each for each in self._answers if each not in self._held_tickets]
        chosen = self._random.sample(free, self._random.randint(0, len(free)))
        if not free:
            chosen = list(self._answers)
        return [self._answers.pop(ticket) for ticket in chosen]

    def close(self):
        self._engine.close()


class Countdown:
    """Turns true when it has been asked so many times."""

    def __init__(self, n_times):
        self.n_left = n_times

    def __call__(self):
        self.n_left -= 1
        return self.n_left < 0


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def write(path, content):
    path.write_bytes(content.encode())
    return path


def csv_of(path, rows, columns=("text",)):
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
    return path


def rows_of(path):
    """Return the rows of a CSV file, its header first."""
    data = path if isinstance(path, bytes) else Path(path).read_bytes()
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def names(folder):
    return sorted(path.name for path in folder.iterdir())
