"""Options that only `classify calibrate`, `evaluate`, `track` and `tune` have."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from classify.cli.groups import OutputFormat, Overwrite, data_setting
from classify.cli.options import split_labels
from classify.errors import ConfigError
from classify.parameters import BOOLEAN, TEXT, Setting, at_least, number, one_of

if TYPE_CHECKING:
    from classify.config import Task
    from classify.jobs import CalibrationWishes

__all__ = [
    "EvaluateOptions",
    "FitOptions",
    "TrackOptions",
    "TuneOptions",
    "parse_prior",
]

# As `classify.calibration` lists them, which takes seconds to import; a test compares.
_METHODS = (
    *("auto", "temperature", "temperature_by_count"),
    *("bias", "affine", "vector", "matrix", "isotonic"),
    *("prior_matching", "batch", "content_free", "domain", "pmi", "none"),
)
_TRUE_LABELS = "Column with the true labels; rows where it is empty are left out."

_setting = partial(Setting, panel="Calibration")
Reviewed = Annotated[
    str | None,
    data_setting(
        "For a file written by classify predict --review: use only the rows drawn at "
        "random, or all rows.",
        one_of("random", "all"),
        default="random, if there are any",
    ),
]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options for true labels, and for the report."""

    label_column: Annotated[
        str | None,
        data_setting(
            _TRUE_LABELS,
            TEXT,
            metavar="COLUMN",
            default="label; of several questions, their names",
        ),
    ] = None
    reviewed: Reviewed = None
    report: Annotated[
        Path | None,
        data_setting(
            "Write report.html, report.json and predictions.csv there.",
            TEXT,
            metavar="DIR",
        ),
    ] = None
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class TrackOptions:
    """Which words are tracked, in which texts, and where the values go."""

    words: Annotated[
        str | None,
        data_setting(
            "Words to track, such as yes,no; several spellings as 'yes|Yes,no|No'.",
            TEXT,
            metavar="WORDS",
        ),
    ] = None
    text: Annotated[
        str | None,
        data_setting("Show one text instead of a file.", TEXT, metavar="TEXT"),
    ] = None
    output: Annotated[
        Path | None,
        data_setting(
            "Write the values to a file: .csv, .tsv, .jsonl or .parquet. '-' is "
            "stdout.",
            TEXT,
            metavar="OUT",
            default="CSV to stdout",
            option="--output -o",
        ),
    ] = None
    output_format: OutputFormat = None
    overwrite: Overwrite = False

    def spellings(self) -> dict[str, list[str]]:
        """Return the spellings of each word, the first of which is its name."""
        if self.words is None:
            raise ConfigError("There are no words: give --words, such as yes,no.")
        spelled: dict[str, list[str]] = {}
        for listed in split_labels(self.words, "--words"):
            name, *others = [each.strip() for each in listed.split("|")]
            if name in spelled:
                raise ConfigError(f"--words has {name!r} twice: leave one out.")
            spelled[name] = [name, *others]
        return spelled


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """On which texts prompts are compared, and where the best one goes."""

    output: Annotated[
        Path | None,
        data_setting(
            "Write a task file with the best prompt there.",
            TEXT,
            metavar="FILE",
            option="--output -o",
        ),
    ] = None
    overwrite: Overwrite = False
    label_column: Annotated[
        str | None,
        data_setting(
            "Column with the true labels, if there are any.", TEXT, metavar="COLUMN"
        ),
    ] = None
    n_texts: Annotated[
        int,
        data_setting(
            "Texts to score with each prompt; drawn at random if there are more.",
            at_least(2, whole=True),
            metavar="N",
        ),
    ] = 64
    ensemble: Annotated[
        int | None,
        data_setting(
            "Write the N best prompts, whose probabilities are averaged.",
            at_least(2, whole=True),
            metavar="N",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options for what is fitted to labelled texts, and for the output."""

    label_column: Annotated[
        str | None,
        data_setting(
            _TRUE_LABELS, TEXT, metavar="COLUMN", default="label, if there is one"
        ),
    ] = None
    reviewed: Reviewed = None
    no_label_column: Annotated[
        bool,
        data_setting("Ignore the labels in the file, and use only its texts.", BOOLEAN),
    ] = False
    output: Annotated[
        Path,
        data_setting(
            "Write the calibration to a file, as JSON.",
            TEXT,
            metavar="FILE",
            option="--output -o",
        ),
    ] = Path("calibration.json")
    overwrite: Overwrite = False
    method: Annotated[
        str,
        _setting(
            "auto, or one of temperature, temperature_by_count, bias, affine, vector, "
            "matrix, isotonic (with labels), prior_matching, batch, content_free, "
            "domain, pmi (without) and none. With --labels-column, auto is "
            "temperature_by_count.",
            one_of(*_METHODS),
        ),
    ] = "auto"
    prior: Annotated[
        str,
        _setting(
            "Share of each label among your texts: uniform, labels (as in the file), "
            "or billing=0.7,shipping=0.3.",
            TEXT,
            metavar="SHARES",
            common=("uniform", "labels"),
        ),
    ] = "uniform"
    unlabeled: Annotated[
        str | None,
        _setting(
            "More texts without labels, to learn what the model prefers.",
            TEXT,
            metavar="FILE",
        ),
    ] = None
    min_label_mass: Annotated[
        float | None,
        _setting(
            "Also abstain where the label mass is below M.",
            number("above 0 and at most 1", lambda value: 0.0 < value <= 1.0),
            metavar="M",
        ),
    ] = None
    force: Annotated[
        bool,
        _setting(
            "Write the calibration even if it makes things worse; allow --method "
            "isotonic with few labels.",
            BOOLEAN,
        ),
    ] = False

    def facts(self, task: "Task") -> dict[str, bool]:
        """Return what method and task say about which options have an effect."""
        neither = ("none", "temperature", "temperature_by_count")
        without_prior = (*neither, "matrix", "isotonic")
        without_texts = (*neither, "content_free", "domain", "pmi")
        return {
            "the method has a prior": self.method not in without_prior,
            "the method reads more texts": self.method not in without_texts,
            "a risk is kept": task.decisions.target_risk is not None,
            "a label is the answer": not task.is_multi,
        }

    def for_task(self, task: "Task") -> "FitOptions":
        """Return these options with the method that a task takes for "auto".

        Raises
        ------
        ConfigError
            Each row brings labels of its own, and something is to be fitted that
            depends on which they are.
        """
        if task.labels_column is None:
            return self
        method = "temperature_by_count" if self.method == "auto" else self.method
        wish = None if task.decisions.sets is None else "--sets"
        if method not in ("temperature_by_count", "none"):
            wish = f"--method {method}"
        if wish is not None and task.labels is None:
            raise ConfigError(
                f"{wish} needs to know all labels in advance: give --labels as well as "
                "--labels-column, or leave it out."
            )
        return replace(self, method=method)

    def wishes(self, task: "Task") -> "CalibrationWishes":
        """Return what to fit, or raise ConfigError."""
        if self.label_column is not None and self.no_label_column:
            raise ConfigError("Give --label-column or --no-label-column, not both.")
        prior = parse_prior(self.prior)
        from classify.jobs import CalibrationWishes

        return CalibrationWishes(
            method=self.method,
            prior=prior,
            target_risk=task.decisions.target_risk,
            min_label_mass=self.min_label_mass,
            sets=task.decisions.sets,
            target=task.decisions.label_target,
            force=self.force,
            any_labels=task.labels is None,
        )


def parse_prior(text: str) -> str | Mapping[str, float]:
    """Return what ``--prior`` says: a word, or a share for each label.

    Examples
    --------
    >>> parse_prior("uniform")
    'uniform'
    >>> parse_prior("billing=0.7, shipping=0.3")
    {'billing': 0.7, 'shipping': 0.3}
    """
    if "=" not in text:
        return _prior_word(text.strip())
    prior = {}
    for pair in split_labels(text, "--prior"):
        name, _, share = pair.rpartition("=")
        try:
            prior[name.strip()] = float(share)
        except ValueError:
            raise ConfigError(
                f"--prior {text!r} must be uniform, labels, or LABEL=SHARE,LABEL=SHARE "
                f"with numbers. Got {share!r} for {name.strip()!r}."
            ) from None
    return prior


def _prior_word(word: str) -> str:
    words = ("uniform", "labels")
    if word in words:
        return word
    near = get_close_matches(word, words, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        "--prior must be uniform, labels, or a share for each label, such as "
        f"billing=0.7,shipping=0.3. Got {word!r} instead.{hint}"
    )
