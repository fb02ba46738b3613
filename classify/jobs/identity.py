"""The identity of a job, so that jobs and their scores are never confused."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from classify import __version__
from classify.engines.kinds import installed_packages
from classify.engines.registry import changes_values, kinds
from classify.estimators.asked import Asked
from classify.jobs.job import Classification
from classify.rows.scorer import Scorer
from classify.scoring.fingerprint import DATE, is_folder

__all__ = ["job_fingerprints", "score_digest", "score_digests", "versions"]


# What one question may have that another has not, with the parts of a prompt.
_OF_QUESTIONS = ("prompt", "labels", "label ", "label_words", "too_long")


def job_fingerprints(job: Classification) -> dict[str, Any]:
    """Return what the rows of an output depend on, besides the rows of the input.

    ``fingerprint`` is a mapping of str to str. Where questions have names,
    ``questions`` has what belongs to each. Loads the tokenizer only.
    """
    shared: dict[str, str] = {}
    questions: dict[str, dict[str, str]] = {}
    for each in job.questions:
        scores, own = _scores(each.scorers()[0], each.fingerprint()), _decisions(each)
        if each.name:
            names = [key for key in scores if key.startswith(_OF_QUESTIONS)]
            questions[each.name] = {key: scores.pop(key) for key in names} | own
            own = {}
        shared |= scores | own
    fingerprint = shared | {
        "columns": _text(
            {
                "text": job.columns.text,
                "labels": job.columns.labels,
                "probabilities": job.probabilities,
                **({"bounds": True} if job.bounds else {}),
                **({"reasoning": True} if job.reasoning else {}),
            }
        ),
        "reading": _text(job.reading),
    }
    if not questions:
        return {"fingerprint": fingerprint}
    return {
        "fingerprint": fingerprint | {"questions": ", ".join(questions)},
        "questions": questions,
    }


def _decisions(question: Asked) -> dict[str, str]:
    return {
        name: "none" if each is None else _digest(each).hex()
        for name, each in question.rules().items()
    }


def score_digest(scorer: Scorer) -> bytes:
    """Return a digest of what scores of a text depend on, besides the text."""
    return score_digests([scorer])[0]


def score_digests(scorers: Sequence[Scorer]) -> list[bytes]:
    """Return the digest of each scorer; see `score_digest`."""
    digests: list[bytes] = []
    before: Scorer | None = None
    shared: dict[str, str] = {}
    for scorer in scorers:
        # To digest a model takes a moment, and scorers of many labels differ in these
        # only.
        alike = replace(scorer, about=())
        if alike != before:
            before, shared = alike, alike.fingerprint()
        scores = _scores(scorer, shared | scorer.fixed)
        # The parts of a prompt only explain its digest, except for a date that it
        # writes.
        counted = {key: scores[key] for key in scores if key[:7] != "prompt."}
        date = {DATE: scores[DATE]} if scores[DATE] else {}
        digests.append(_digest(counted | date))
    return digests


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute."""
    packages = [name for kind in kinds() for name in kind.packages]
    return installed_packages([*packages, "tokenizers"])


def _scores(scorer: Scorer, fingerprint: Mapping[str, str]) -> dict[str, str]:
    model, template = scorer.model.spec, scorer.model.template
    prompts = (template, *template.ensemble)
    engine = model.engine_choice().name
    given = dict(model.engine_options or {})
    options = {
        # The contents of folders are digested with the model.
        name: value
        for name, value in given.items()
        if not is_folder(value) and changes_values(engine, name)
    }
    return {
        "classify": __version__,
        **fingerprint,
        "engine": engine,
        "dtype": model.dtype,
        "engine_options": _text(options),
        **(
            {}
            if all(each.too_long == "truncate" for each in prompts)
            else {"too_long": "error"}
        ),
    }


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_named)


def _named(value: object) -> str:
    return str(value) if isinstance(value, Path) else repr(value)


def _digest(value: Any) -> bytes:
    return hashlib.sha256(_text(value).encode("utf-8", "surrogatepass")).digest()[:16]
