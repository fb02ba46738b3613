"""Ours: `ZeroShotClassifier` with the transformers engine."""

from __future__ import annotations

from runner import Case, Logprobs, Setting, serve

from classify import PromptTemplate, ZeroShotClassifier
from classify.engines import load_engine


class Ours:
    """Label log-probabilities to a tolerance; the engine chooses its own batches."""

    def __init__(self, model: str, tolerance: float) -> None:
        self._model = model
        self._tolerance = tolerance
        self._engine = load_engine("transformers", model)
        self._classifiers: dict[str, ZeroShotClassifier] = {}

    def settings(self, case: Case) -> list[Setting]:
        """There is nothing to set."""
        return [{"tune_texts": 8}]

    def score(self, case: Case, setting: Setting) -> Logprobs:
        """`label_logprobs`, its columns in the case's order."""
        classifier = self._classifier(case)
        scores = classifier.label_logprobs(case.texts)
        # The next round has the same texts, and must not find them in memory.
        self._engine.free_memory()
        names = [str(name) for name in classifier.classes_]
        columns = [names.index(label) for label in case.labels]
        return [[float(row[j]) for j in columns] for row in scores.values]

    def _classifier(self, case: Case) -> ZeroShotClassifier:
        """One classifier a case."""
        if case.name not in self._classifiers:
            self._classifiers.clear()
            self._classifiers[case.name] = ZeroShotClassifier(
                labels=case.labels,
                model=self._model,
                engine=self._engine,
                prompt=PromptTemplate(case.template, chat=False),
                strategy="exact",
                tolerance=self._tolerance,
            )
        return self._classifiers[case.name]


if __name__ == "__main__":
    serve(Ours)
