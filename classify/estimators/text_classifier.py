"""What estimators of texts have in common for scikit-learn."""

from typing import Any

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags

from classify.labels import LabelSet
from classify.labels.values import label_values

__all__ = ["TextClassifier"]


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose input is a sequence of texts, which it checks itself."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of texts whose label is predicted right; `y` as in `fit`."""
        known: LabelSet = self.scorer().known_labels()
        true = label_values(y)
        if known.values is None:
            true = [known.find(name) or name for name in true]
        predicted = self.predict(X)
        return float(accuracy_score(true, predicted, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # Without what `PromptedModel.of` and a checked calibration keep here.
        state: dict[str, Any] = super().__getstate__()
        return {key: state[key] for key in state if key not in ("_made", "_checked")}
