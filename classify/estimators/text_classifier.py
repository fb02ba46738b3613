"""What estimators of texts have in common for scikit-learn."""

from typing import Any

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags

__all__ = ["TextClassifier"]


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose input is a sequence of texts, which it checks itself."""

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
