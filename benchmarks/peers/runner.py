"""What every contestant's process does: read requests from stdin, answer on stdout.

A contestant runs in an environment of its own, so this file imports nothing but the
standard library (and torch, which all environments have). One request is one line of
JSON; one answer is one line of JSON. The process stays up between requests, so that the
model is loaded once and the rounds of all contestants can be interleaved.

    {"load": {"model": "folder", "options": {}, "threads": 2, "clock": "wall"}}
                                                    -> {"versions": {...}}
    {"settings": CASE}                              -> {"settings": [{...}, ...]}
    {"run": {"case": CASE, "setting": {...}}}       -> {"seconds": s, "logprobs": [...]}

CASE holds ``texts``, ``template``, ``prompts`` (the template filled with each text) and
``labels`` (sorted). A contestant answers with log p(label | prompt), joint over the
label's tokens, natural logarithm, one row a prompt and one column a label, where the
label follows the prompt after a space, or after the white space that ends it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

Logprobs = list[list[float]]
Setting = dict[str, Any]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Case:
    """Texts, labels and the template that joins them."""

    name: str
    template: str
    texts: list[str]
    prompts: list[str]
    labels: list[str]

    @property
    def continuations(self) -> list[str]:
        """The labels as they follow the prompt: after a space, unless one is there."""
        return [f"{self.separator}{label}" for label in self.labels]

    @property
    def separator(self) -> str:
        """What stands between a prompt and a label."""
        return "" if self.template[-1].isspace() else " "


class Contestant(Protocol):
    """Something that computes log p(label | prompt)."""

    def settings(self, case: Case) -> list[Setting]:
        """Return settings worth trying on `case`; the fastest one is kept.

        Each has a ``"tune_texts"`` entry: how many texts it takes to time it.
        """

    def score(self, case: Case, setting: Setting) -> Logprobs | None:
        """Return log p(label | prompt), (n_texts, n_labels); None: computes none."""


def serve(load: Callable[..., Contestant], *packages: str) -> None:
    """Answer requests until stdin ends.

    Parameters
    ----------
    load : callable
        Called once as ``load(model_folder, **options)``.
    *packages : str
        Distributions whose versions are reported, besides torch and transformers.
    """
    import torch

    answers = _take_stdout()
    contestant: Contestant | None = None
    clock = time.perf_counter
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            torch.set_num_threads(request["load"]["threads"])
            clock = CLOCKS[request["load"]["clock"]]
            contestant = load(request["load"]["model"], **request["load"]["options"])
            versions = {
                name: importlib.metadata.version(name)
                for name in ("torch", "transformers", *packages)
            }
            answer: dict[str, Any] = {"versions": versions}
        elif contestant is None:
            raise RuntimeError("the first request must be 'load'")
        elif "settings" in request:
            answer = {"settings": contestant.settings(Case(**request["settings"]))}
        else:
            answer = _timed(contestant, clock, **request["run"])
        print(json.dumps(answer), file=answers, flush=True)


def by_length(case: Case) -> list[int]:
    """Sort the prompts' indices from short to long: less padding in a batch."""
    return sorted(range(len(case.prompts)), key=lambda i: len(case.prompts[i]))


def in_order(rows: Logprobs, order: list[int]) -> Logprobs:
    """`rows`, computed in `order`, in the case's own order."""
    back = dict(zip(order, rows, strict=True))
    return [back[i] for i in range(len(rows))]


def _timed(
    contestant: Contestant,
    clock: Callable[[], float],
    case: dict[str, Any],
    setting: Setting,
) -> dict[str, Any]:
    wall, cpu, start = time.perf_counter(), time.process_time(), clock()
    logprobs = contestant.score(Case(**case), setting)
    seconds = clock() - start
    cores = (time.process_time() - cpu) / (time.perf_counter() - wall)
    return {"seconds": seconds, "cores": cores, "logprobs": logprobs}


def _take_stdout() -> TextIO:
    """Return the stream for answers; whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers
