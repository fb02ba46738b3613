"""A value for every option of every command, and which of them go together.

A new option must be given a value here, or `tests/test_option_pairs.py` fails.
"""

import json
from itertools import combinations

import numpy as np
from typer.main import get_command

from classify.cli import app
from classify.estimators.artefact import Artefact
from classify.estimators.classifier import ZeroShotClassifier
from classify.jobs import CalibrationWishes, fit_artefact
from classify.jobs.labelled import ScoredTexts
from tests.labelled_tickets import draw, write

NAMES = ("billing", "shipping", "technical problem", "account access", "refund")
LABELS = ",".join(NAMES)
TEMPLATE = "{text}\\nOne of {labels}:"

# Options that need something which is not here, or which ends the command.
LEFT_OUT = {
    *("help", "sources", "source", "ray", "workers", "url", "api"),
    "api_key_env",
    "question",  # of a task that has several
    "target",  # of labels any number of which apply
    "reviewed",  # of a file with rows to review
}


def parameters_of(command):
    """Return the options of a command by the names of their parameters."""
    params = get_command(app).commands[command].params
    return {
        each.name: max(each.opts, key=len)
        for each in params
        if each.name not in LEFT_OUT
    }


def prepared(folder):
    """Write the files that the values name; return the values, by parameter."""
    rows = _short(draw(12, seed=5))
    table = [(text, label, f"{label}|refund|billing") for text, label in rows]
    texts = folder / "rows.csv"
    texts.write_text(
        "text,label,which\n" + "".join(f'"{a}",{b},{c}\n' for a, b, c in table),
        encoding="utf-8",
    )
    (folder / "task.yaml").write_text(json.dumps({"labels": list(NAMES)}))
    (folder / "labels.yaml").write_text(json.dumps(list(NAMES)))
    write(folder / "more.csv", _short(draw(6, seed=6)))
    _write_calibration(folder / "calibration.json")
    reason = ["--strategy", "reason", "--max-reasoning-tokens", "3"]
    shown = ["--examples", folder / "more.csv"]
    # What other pairs wrote has other columns.
    review = ["--review", folder / "review.csv", "--overwrite"]
    return {
        **_common(folder),
        "answer": ["--answer", "code"],
        "answer_prefix": ["--answer-prefix", "Topic:"],
        "as_json": ["--json"],
        "explain": ["--explain"],
        "as_table": ["--table"],
        "cache": ["--cache", folder / "cache"],
        "calibration": ["--calibration", folder / "calibration.json"],
        "chain_seed": ["--chain-seed", "1", "--n-chains", "2", *reason],
        "chain_temperature": ["--chain-temperature", "1", "--n-chains", "2", *reason],
        "chat": ["--no-chat"],
        "dry_run": ["--dry-run"],
        "ensemble": ["--ensemble", "2"],
        "escape": ["--escape", "none of these"],
        "example_choice": ["--example-choice", "random", *shown],
        "example_label_column": ["--example-label-column", "label", *shown],
        "example_seed": ["--example-seed", "1", *shown],
        "example_text_column": ["--example-text-column", "text", *shown],
        "examples": shown,
        "force": ["--force"],
        "keep_job": ["--keep-job"],
        "kind": ["--kind", "choice"],
        "label_column": ["--label-column", "label"],
        "labels_column": ["--labels-column", "which"],
        "log_json": ["--log-json", folder / "log.jsonl"],
        "max_example_tokens": ["--max-example-tokens", "200", *shown],
        "max_errors": ["--max-errors", "50%"],
        "max_reasoning_tokens": reason,
        "method": ["--method", "temperature"],
        "min_node_probability": ["--min-node-probability", "0.8"],
        "min_label_mass": ["--min-label-mass", "0.001"],
        "n_examples": ["--n-examples", "2", *shown],
        "n_chains": ["--n-chains", "2", *reason],
        "n_texts": ["--n-texts", "4"],
        "no_label_column": ["--no-label-column"],
        "n_orders": ["--n-orders", "2"],
        "no_words": ["--no-words", "No,no"],
        "options": ["--options", "lines"],
        "overwrite": ["--overwrite"],
        "output_format": ["--output-format", "csv"],
        "prior": ["--prior", "uniform"],
        "probabilities": ["--probabilities"],
        "bounds": ["--bounds"],
        "reasoning": ["--reasoning", *reason],
        "report": ["--report", folder / "report"],
        "restart": ["--restart"],
        "rounding": ["--rounding"],
        "review": review,
        "review_random": ["--review-random", "0.5", *review],
        "review_rows": ["--review-rows", "3", *review],
        "template_arguments": ["--template-argument", "tone=brief"],
        "sample": ["--sample", "5"],
        "sets": ["--sets", "0.8"],
        "shard": ["--shard", "1/2"],
        "shortlist": ["--shortlist", "3"],
        "speculation": ["--speculation", "ngram"],
        "strategy": ["--strategy", "generate"],
        "system": ["--system", "Answer with one of {labels}."],
        "target_risk": ["--target-risk", "0.5"],
        "template": ["--template", TEMPLATE],
        "text_position": ["--text-position", "first"],
        "text": ["--text", "Where is my parcel?"],
        "threshold": ["--threshold", "0.5"],
        "tree_scoring": ["--tree-scoring", "paths"],
        "tolerance": ["--tolerance", "0.01"],
        "too_long": ["--too-long", "truncate"],
        "unlabeled": ["--unlabeled", folder / "more.csv"],
        "yes_words": ["--yes-words", "Yes,yes"],
    }


def _short(rows):
    """Cut texts: what a model reads takes most of the time of the runs."""
    return [(text[:40], label) for text, label in rows]


def _common(folder):
    """Return the values of what nearly every command has."""
    return {
        "batch_size": ["--batch-size", "4"],
        "debug": ["--debug"],
        "device": ["--device", "cpu"],
        "dtype": ["--dtype", "float32"],
        "encoding": ["--encoding", "utf-8"],
        "engine": ["--engine", "transformers"],
        "engine_options": ["--engine-option", "cache_bytes=1000000"],
        "escape_char": ["--escape-char", "\\"],
        "input_format": ["--input-format", "csv"],
        "labels": ["--labels", LABELS],
        "labels_file": ["--labels-file", folder / "labels.yaml"],
        "limit": ["--limit", "8"],
        "model": ["--model", "demo"],
        "output": ["--output", folder / "out.csv"],
        "quiet": ["--quiet"],
        "quote_char": ["--quote-char", '"'],
        "revision": ["--revision", "main"],
        "separator": ["--separator", ","],
        "task": ["--task", folder / "task.yaml"],
        "text_column": ["--text-column", "text"],
        "trust_remote_code": ["--trust-remote-code"],
    }


def _write_calibration(path):
    classifier = ZeroShotClassifier(NAMES)
    rows = _short(draw(60, seed=7))
    texts = [text for text, _ in rows]
    scored = ScoredTexts(
        [{"text": text} for text in texts],
        np.array([label for _, label in rows]),
        classifier.label_logprobs(texts),
        {},
    )
    wishes = CalibrationWishes(method="temperature", target_risk=0.5, sets=0.8)
    fingerprint = classifier.scorer().fingerprint()
    artefact: Artefact = fit_artefact(scored, wishes, fingerprint=fingerprint).artefact
    artefact.save(path)


def covering(names, conflicts, *, size, alone=()):
    """Yield sets of options until each pair that goes together was in one.

    Parameters
    ----------
    names : sequence of str
    conflicts : set of frozenset of str
        Pairs that do not go together.
    size : int
        Most options of a set.
    alone : sequence of str
        Options that hide what others do: a set that has one counts for its own pairs.
    """
    left = {
        frozenset(pair)
        for pair in combinations(names, 2)
        if frozenset(pair) not in conflicts
    }

    def gain(name, chosen):
        return sum(frozenset((name, other)) in left for other in chosen)

    while left:
        chosen = sorted(min(left, key=sorted))
        while len(chosen) < size:
            fitting = [
                name
                for name in names
                if name not in chosen
                and not any(frozenset((name, each)) in conflicts for each in chosen)
            ]
            best = max(fitting, key=lambda name: gain(name, chosen), default=None)
            if best is None or not gain(best, chosen):
                break
            chosen.append(best)
        hiding = [name for name in chosen if name in alone]
        left -= {
            frozenset(pair)
            for pair in combinations(chosen, 2)
            if not hiding or set(pair) & set(hiding)
        }
        yield chosen
