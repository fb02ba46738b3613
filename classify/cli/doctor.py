"""`classify doctor`: what is installed, which engine runs, whether it answers right."""

import time
from collections.abc import Iterable

import typer

from classify.cli.console import Notes, reported_errors
from classify.cli.engine_options import (
    ApiKeyEnvOption,
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    EngineOptionsOption,
    SpeculationOption,
    UrlOption,
)
from classify.cli.given import Given
from classify.cli.options import (
    DebugOption,
    ModelOption,
    RevisionOption,
    TrustOption,
    task_of,
)
from classify.cli.uses import refuse_unused, task_facts

__all__ = ["DOCTOR_HELP", "doctor_command"]

DOCTOR_HELP = """Example:

$ classify doctor

Show versions and devices, load the engine with the model, say what it runs
and how much fits, and compare its answers with values computed in full.
Exit code 0: they are right; 1: they are not, or the engine does not start.
Another model: classify doctor --model Qwen/Qwen3-0.6B --engine vllm
"""


# Of the longest name, so that what is printed piece by piece is one table.
_NAMES_WIDTH = len("Keys and values")


def doctor_command(
    context: typer.Context,
    model: ModelOption = None,
    engine: EngineOption = None,
    url: UrlOption = None,
    api_key_env: ApiKeyEnvOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    batch_size: BatchSizeOption = None,
    speculation: SpeculationOption = None,
    engine_options: EngineOptionsOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = None,
    debug: DebugOption = False,
) -> None:
    """Show what is installed, load an engine, and test its answers."""
    with reported_errors(debug=debug), Notes() as notes:
        given = Given.of(context)
        task = task_of(given)
        refuse_unused(given, task_facts(task))
        from classify.engines.choice import choose_engine
        from classify.engines.diagnosis import describe, environment, findings

        spec = task.model
        chosen = spec.engine_choice()
        auto = choose_engine("auto", spec.model, device=spec.device)
        facts = {**environment(), "auto takes": f"{auto.name}: {auto.reason}"}
        _print(facts.items(), notes)
        further = dict(spec.engine_options or {})
        if chosen.name == "vllm":
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


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _print(facts: Iterable[tuple[str, str]], notes: Notes) -> None:
    from classify.cli.tables import facts_table

    table = facts_table(facts, names_width=_NAMES_WIDTH)
    notes.results(in_files=80).print(table)
