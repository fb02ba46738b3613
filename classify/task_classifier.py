"""The estimator of a whole task: texts in, a frame with all answers out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from classify.config import Task
from classify.config.decisions import about, rules_of
from classify.errors import InputError
from classify.estimators.asked import (
    Asked,
    AskedLabels,
    AskedQuestion,
    asked_question,
)
from classify.estimators.asking import ask, score_questions
from classify.estimators.explaining import one_text, refuse_explaining
from classify.estimators.given_calibrator import saved_state
from classify.parameters import check_parameters, instance_of
from classify.rows.encoding import Row
from classify.rows.explanation import Explanations
from classify.rows.frames import (
    add_results,
    frame_of,
    row_refusal,
    rows_and_candidates,
    rows_of_frame,
)
from classify.rows.prompted_model import Refuse
from classify.rows.results import RowResults, column_name
from classify.rows.scorer import text_error
from classify.scoring.doubts import doubt_labels, doubt_labels_left_out

__all__ = ["TaskClassifier"]


class TaskClassifier(BaseEstimator):  # type: ignore[misc]
    """Answers all questions of a task about each text, over one model.

    Usable without `fit`. Each answer is what a `ZeroShotClassifier` with the question's
    labels, prompt and calibration gives. Where the question has a threshold or a target
    risk that its calibration was fitted for, labels below it are None.

    Parameters
    ----------
    task : Task, mapping, or str or Path of a task file
        A mapping has the keys of a task file.

    Attributes
    ----------
    classes_ : dict of str to ndarray of str
        The labels of each question, sorted.

    Examples
    --------
    >>> from classify import TaskClassifier
    >>> clf = TaskClassifier(
    ...     {
    ...         "questions": {
    ...             "topic": {"labels": ["billing", "shipping"]},
    ...             "urgency": {"labels": ["low", "high"]},
    ...         }
    ...     }
    ... )
    >>> clf.predict(["My parcel has not arrived."]).columns.tolist()
    ['topic', 'urgency']
    """

    def __init__(self, task: Task | Mapping[str, Any] | str | os.PathLike[str]) -> None:
        self.task = task

    def fit(self, X: Any = None, y: Any = None) -> "TaskClassifier":
        """Check the task; nothing is learned.

        Parameters
        ----------
        X, y : ignored
        """
        self._questions()
        return self

    @property
    def classes_(self) -> dict[str, Any]:
        """The labels of each question, sorted."""
        return {each.name: each.classifier.classes_ for each in self._questions()}

    def predict(self, X: Any) -> pd.DataFrame:
        """Return the most likely label of each text, a column a question.

        Of a question of kind ``multi``, a list of the labels that apply.

        Parameters
        ----------
        X : sequence of str, Series, array, or DataFrame
            Texts; or rows with the columns that the prompts need.

        Returns
        -------
        DataFrame, shape (n_texts, n_questions)
        """
        found = self._answers(X)
        labels = {
            column_name(name, "label"): _labels(each) for name, each in found.items()
        }
        return pd.DataFrame(labels, index=_index(X))

    def predict_proba(self, X: Any) -> pd.DataFrame:
        """Return p(label | text) for each question; its labels add up to 1.

        Those of a question of kind ``multi`` do not: each is p(label applies).

        Parameters
        ----------
        X : sequence of str, Series, array, or DataFrame
            As in `predict`.

        Returns
        -------
        DataFrame, shape (n_texts, total number of labels)
            Its columns are pairs of question and label: ``proba["topic"]`` has a column
            for each label of a question.
        """
        found = self._answers(X)
        columns = {
            (column_name(name, "label"), str(label)): each.columns[f"p({label})"]
            for name, each in found.items()
            for label in each.classes
        }
        frame = pd.DataFrame(
            np.column_stack(list(columns.values())),
            columns=pd.MultiIndex.from_tuples(columns, names=["question", "label"]),
        )
        index = _index(X)
        return frame if index is None else frame.set_axis(index)

    def classify_frame(
        self,
        frame: pd.DataFrame,
        *,
        probabilities: bool = False,
        bounds: bool = False,
        on_error: Literal["raise", "set_aside"] = "raise",
    ) -> pd.DataFrame:
        """Return the frame with the answers in further columns.

        Parameters
        ----------
        frame : DataFrame, or table of polars, pyarrow or datasets
            Rows with a text, in the task's ``text_column``, and with what else the
            prompts need.
        probabilities : bool, default=False
            Add a column ``question.p(label)`` for each label.
        bounds : bool, default=False
            Add what is known of labels and probabilities, as the ``classify_frame`` of
            `ZeroShotClassifier` and `ZeroShotMultiLabelClassifier`.
        on_error : {"raise", "set_aside"}, default="raise"
            "set_aside" continues, and gives the reason in the column ``error``.

        Returns
        -------
        DataFrame
            The input's columns, then those that ``classify predict`` writes: of a
            question ``topic``: ``topic``, ``topic.probability``, ``topic.label_mass``
            and so on.
        """
        frame = frame_of(frame)
        questions, text_column = self._questions(), self._task().text_column
        rows = [
            rows_of_frame(frame, each.scorers()[0].fields, text_column)
            for each in questions
        ]
        refuse = row_refusal(frame.index) if on_error == "raise" else None
        results = _asked(
            questions, rows, refuse, probabilities=probabilities, bounds=bounds
        )
        return add_results(frame, results, with_errors=on_error == "set_aside")

    def explain(self, text: str | Mapping[str, str]) -> Explanations:
        """Explain how the probabilities of a text come about, for each question.

        Parameters
        ----------
        text : str, or mapping of str to str
            A mapping has the columns that the prompts need.

        Returns
        -------
        Explanations
            A dict: for each question, what the ``explain`` of its classifier returns.
            Printed, or shown in a notebook, it is a picture of each.

        Examples
        --------
        >>> from classify import TaskClassifier
        >>> questions = {"topic": {"labels": ["billing", "shipping"]}}
        >>> found = TaskClassifier({"questions": questions}).explain("Where is it?")
        >>> len(found["topic"].labels)
        2
        """
        questions, given = self._questions(), one_text(text)
        rows = [
            rows_and_candidates(given, None, each.scorers()[0].fields)[0]
            for each in questions
        ]
        scored = score_questions(
            questions, rows, refuse=refuse_explaining, return_steps=True
        )
        return Explanations(
            (column_name(each.name, "label"), each.explanation(some))
            for each, some in zip(questions, scored, strict=True)
        )

    def _answers(self, X: Any) -> dict[str, RowResults]:
        questions = self._questions()
        rows = [
            rows_and_candidates(X, None, each.scorers()[0].fields)[0]
            for each in questions
        ]
        found = _asked(questions, rows, text_error, probabilities=True)
        for each in questions:
            _doubt(found[each.name], each)
        return found

    def _task(self) -> Task:
        task = self.task
        if isinstance(task, str | os.PathLike):
            return Task.from_yaml(Path(task))
        if isinstance(task, Mapping):
            return Task.parse(task)
        says = "a Task, a mapping, or the path of a task file"
        check_parameters("TaskClassifier", task=(task, instance_of(says, Task)))
        return task

    def _questions(self) -> list[Asked]:
        made: tuple[Any, list[Asked]] | None = getattr(self, "_made", None)
        task = self._task()
        parts = task.by_question()
        files = [each.calibration for each in parts.values() if each.calibration]
        now = (task, [saved_state(each) for each in files])
        # Its classifiers keep what they compiled, as long as the task is the same, and
        # thresholds and sets as long as their files are.
        if made is None or made[0] != now:
            questions: list[Asked] = []
            for name, part in parts.items():
                with about(name):
                    rules = rules_of(part)
                questions.append(
                    asked_question(
                        part.classifier(),
                        name,
                        selective=rules.selective,
                        sets=rules.sets,
                    )
                )
            made = self._made = (now, questions)
        for each in made[1]:
            each.rules()  # checks what they were fitted on
        return made[1]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {key: state[key] for key in state if key != "_made"}


def _asked(
    questions: Sequence[Asked],
    rows: Sequence[Sequence[Row | InputError]],
    refuse: Refuse | None,
    *,
    probabilities: bool,
    bounds: bool = False,
) -> dict[str, RowResults]:
    results = ask(
        questions, rows, refuse=refuse, probabilities=probabilities, bounds=bounds
    )
    for each in questions:
        if isinstance(each, AskedQuestion):
            labels = _labels(results[each.name]).tolist()
            each.scorers()[0].model.warn_of_one_label(labels, each.name)
    return results


def _doubt(results: RowResults, question: Asked) -> None:
    """Log a warning if a question may have other answers by what is not known."""
    if "certain" in results.columns:
        tolerance = question.scorers()[0].scoring.tolerance
        doubt_labels(results.columns["certain"], tolerance, question.name)
    elif isinstance(question, AskedLabels):
        doubt_labels_left_out(results.n_uncertain, len(results.scored), question.name)


def _labels(results: RowResults) -> Any:
    """Return the label of each text, or the list of its labels."""
    columns = results.columns
    return columns["label"] if "label" in columns else columns["labels"]


def _index(X: Any) -> Any:
    """Return the index of what has one."""
    return X.index if isinstance(X, pd.DataFrame | pd.Series) else None
