"""`classify doctor`: what is installed, which engine runs, and its self-test."""

import logging
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import numpy as np
import typer

from classify.cli.audit_labels import example_fact, slot_facts
from classify.cli.console import Notes
from classify.cli.tables import facts_table
from classify.config import Task
from classify.engines.choice import choose_engine
from classify.engines.diagnosis import describe, environment, findings
from classify.engines.protocol import Engine
from classify.engines.registry import fallback, kind_of
from classify.errors import ClassifyError

__all__ = ["diagnose"]

# Of the longest name, so that what is printed piece by piece is one table.
_NAMES_WIDTH = len("Keys and values")


# Short and long, plain and odd, so that probabilities differ.
_TEXTS = (
    "My parcel has not arrived.",
    "It works!",
    "I was charged twice for one order, and so far I have had no answer at all.",
    "Bonjour, je voudrais changer mon mot de passe.",
    "2 + 2 = 5",
    "The museum opens at nine. " * 20,
    "no",
    "Is it possible to return shoes that were worn once, indoors, for an hour?",
)


def diagnose(task: Task, notes: Notes, *, rounding: bool = False) -> None:
    """Print what is installed and what the engine answers; exit 1 if it is wrong."""
    spec = task.model
    chosen = spec.engine_choice()
    auto = choose_engine("auto", spec.model, device=spec.device)
    facts = {**environment(), "auto chooses": ": ".join(filter(None, auto))}
    _print(facts.items(), notes)
    further = dict(spec.engine_options or {})
    if kind_of(chosen.name).lists("self_test"):
        further["self_test"] = False  # it is run below, case by case
    task = task.changed({"engine": chosen.name, "engine_options": further})
    started = time.monotonic()
    with notes.waiting(f"Loading the model {spec.model} …"):
        loaded = task.classifier().load_engine()
    seconds = time.monotonic() - started
    typer.echo()
    _print([("Engine", f"{loaded.name}, loaded in {seconds:.1f} s")], notes)
    try:
        facts = describe(loaded)
        _print(((_capital(name), what) for name, what in facts.items()), notes)
        _print(_slot(task), notes)
        if rounding:
            with notes.waiting("Comparing with the model in float32 …"):
                compared = _rounding(task, loaded)
            _print([("Rounding", compared)], notes)
        found = findings(loaded)
    finally:
        loaded.close()
    typer.echo()
    _print(
        (
            ("WRONG" if each.is_fault else "ok", f"{each.name}: {each.detail}")
            for each in found
        ),
        notes,
    )
    if any(each.is_fault for each in found):
        raise typer.Exit(1)


def _slot(task: Task) -> list[tuple[str, Any]]:
    """Return where a label is read, or why the model's template is refused."""
    # What stands around an answer does not depend on what the labels are.
    labelled = task if task.labels else task.changed({"labels": ["yes", "no"]})
    try:
        audit = labelled.classifier().audit()
    except ClassifyError as error:
        return [("Prompt", str(error))]
    return [*slot_facts(audit), example_fact(audit)]


def _rounding(task: Task, loaded: Engine) -> str:
    """Return how far an engine's answers are from float32, or why it is not known."""
    float32: dict[str, Any] = dict.fromkeys(("engine_options", "speculation"))
    float32 |= {"engine": fallback().name, "device": "cpu", "dtype": "float32"}
    asked = {"labels": ["yes", "no"], "strategy": "exact", "tolerance": 0.0}
    task = Task(model=task.model, prompt=task.prompt)
    # Whether the model would give these labels does not matter here.
    logging.disable(logging.WARNING)
    try:
        reference = task.changed(asked | float32).classifier()
        with closing(reference.load_engine()) as exact:
            expected = reference.set_params(engine=exact).label_logprobs(_TEXTS)
        ours = task.changed(asked).classifier().set_params(engine=loaded)
        answered = ours.label_logprobs(_TEXTS)
    except ClassifyError as error:
        return f"not compared: {error}"
    finally:
        logging.disable(logging.NOTSET)
    logs, values = (
        np.abs(of(answered.values) - of(expected.values)) for of in (np.array, np.exp)
    )
    if not logs.any():
        return "none against float32 on the CPU"
    return (
        f"log p of a label is off by {logs.mean():.1g} nats on average, "
        f"{logs.max():.1g} at most, and p by {values.max():.1g} at most, against "
        "float32 on the CPU"
    )


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _print(facts: Iterable[tuple[str, Any]], notes: Notes) -> None:
    table = facts_table(facts, names_width=_NAMES_WIDTH)
    notes.results(narrow=True).print(table)
