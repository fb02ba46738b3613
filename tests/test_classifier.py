import copy
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from classify import LabelSet, PromptTemplate, Verbalizer, ZeroShotClassifier
from classify.engines import FakeEngine
from classify.errors import ConfigError, DataError, InputError, LabelError, PromptError
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine

NAMES = ["shipping", "billing", "refund request"]
TEXTS = ["My invoice is wrong.", "Where is my parcel?", "Money back!", "a", "b", "c"]
TOPIC = PromptTemplate("{text}\nTopic:", chat=False)


NO_TEXT = (
    "Text 1: there is no text: it is empty or missing. Leave it out, or use "
    "classify_frame(…, on_error='set_aside'), which continues with the others."
)


def make(labels=NAMES, **options):
    engine = options.pop("engine", None) or hashed_engine(len(byte_level()))
    options = {"prompt": TOPIC, "tolerance": 0.0, **options}
    return ZeroShotClassifier(labels, engine=engine, tokenizer=byte_level(), **options)


def raises(message: str, error=InputError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


# ------------------------------------------------------------------ what comes out


def test_columns_are_sorted_and_the_prompt_keeps_the_declared_order():
    clf = make(prompt=PromptTemplate("{labels}: {text}", chat=False))
    assert clf.classes_.tolist() == ["billing", "refund request", "shipping"]
    assert clf.label_logprobs(TEXTS).classes.tolist() == clf.classes_.tolist()
    clf.predict(TEXTS[:1])
    prompt = clf.engine.requests[0].prompt_token_ids
    assert "shipping, billing, refund request:" in byte_level().decode(prompt)


def test_probabilities_are_the_normalised_joint_ones():
    clf = make()
    scores = clf.label_logprobs(TEXTS)
    assert scores.values.shape == (6, 3)
    joint = np.exp(scores.values)
    np.testing.assert_allclose(joint.sum(axis=1), scores.label_mass)
    np.testing.assert_allclose(clf.predict_proba(TEXTS).sum(axis=1), 1.0)
    np.testing.assert_allclose(
        clf.predict_proba(TEXTS), joint / joint.sum(axis=1, keepdims=True)
    )
    np.testing.assert_allclose(
        clf.predict_log_proba(TEXTS), np.log(clf.predict_proba(TEXTS))
    )
    best = clf.classes_[joint.argmax(axis=1)]
    assert clf.predict(TEXTS).tolist() == best.tolist()


@pytest.mark.parametrize(
    "container", [list, tuple, np.array, pd.Series, pd.Index], ids=lambda c: c.__name__
)
def test_containers_of_texts(container):
    clf = make()
    np.testing.assert_array_equal(
        clf.predict_proba(container(TEXTS)), clf.predict_proba(TEXTS)
    )


def test_series_with_another_index_and_numpy_strings():
    clf = make()
    series = pd.Series(TEXTS, index=range(10, 16), dtype="string")
    np.testing.assert_array_equal(clf.predict_proba(series), clf.predict_proba(TEXTS))


def test_no_text_gives_no_result():
    clf = make()
    assert clf.predict([]).shape == (0,)
    assert clf.predict_proba([]).shape == (0, 3)
    assert clf.predict_log_proba(np.array([], dtype=str)).shape == (0, 3)
    assert clf.label_logprobs(pd.Series([], dtype=str)).label_mass.shape == (0,)
    assert clf.classify_frame(pd.DataFrame({"text": []})).shape == (0, 6)


def test_order_and_duplicates_change_nothing():
    clf = make()
    once = clf.label_logprobs(TEXTS).values
    again = clf.label_logprobs([*reversed(TEXTS), *TEXTS]).values
    np.testing.assert_array_equal(again, np.concatenate([once[::-1], once]))


def test_steps_are_returned_when_asked_for():
    clf = make()
    assert clf.label_logprobs(TEXTS).steps is None
    steps = clf.label_logprobs(TEXTS, return_steps=True).steps
    assert len(steps) == len(TEXTS)
    assert steps[0][0].prefix == ()


def test_progress_counts_every_text():
    told = []
    make().label_logprobs([*TEXTS, *TEXTS], progress=told.append)
    assert sum(told) == 12


@pytest.mark.parametrize("strategy", ["exact", "generate"])
def test_strategies(strategy):
    scores = make(strategy=strategy, tolerance=1e-3).label_logprobs(TEXTS)
    assert (scores.lower <= scores.values + 1e-12).all()
    assert (scores.values <= scores.upper + 1e-12).all()
    if strategy == "generate":
        assert (scores.unresolved > 0).any()


# ------------------------------------------------------------------- scikit-learn


def test_needs_no_fit_and_fit_changes_nothing():
    clf = make()
    assert not get_tags(clf).requires_fit
    before = clf.predict_proba(TEXTS)
    assert clf.fit(TEXTS, ["billing", "shipping"] * 3) is clf
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), before)


def test_labels_can_be_learnt():
    clf = make(labels=None)
    assert get_tags(clf).requires_fit
    clf.fit(["x", "y"], ["shipping", "billing"])
    assert clf.classes_.tolist() == ["billing", "shipping"]


def test_no_labels_at_all():
    with raises(
        "No labels: give `labels=[…]` to the classifier, or `y` to fit.", LabelError
    ):
        make(labels=None).fit(TEXTS)
    with pytest.raises(AttributeError, match="has no labels"):
        make(labels=None).predict(TEXTS)


def test_y_must_be_among_the_labels():
    with raises(
        "In y, 'biling' is not one of the labels: 'shipping', 'billing', 'refund "
        "request'. Did you mean 'billing'?",
        LabelError,
    ):
        make().fit(TEXTS[:1], ["biling"])


def test_clone_get_params_set_params_and_copy():
    clf = make(tolerance=0.25)
    copied = clone(clf)
    assert copied.get_params()["tolerance"] == 0.25
    assert copied.engine is clf.engine
    assert copied.tokenizer is clf.tokenizer
    np.testing.assert_array_equal(copied.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    clf.set_params(prompt=PromptTemplate("{text} is about", chat=False))
    assert not np.array_equal(copied.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert "tolerance=0.25" in repr(clf)


def test_changed_parameters_take_effect():
    clf = make()
    before = clf.predict_proba(TEXTS)
    clf.set_params(verbalizer=Verbalizer(end="always"))
    assert not np.array_equal(clf.predict_proba(TEXTS), before)
    clf.set_params(labels=["a", "b"])
    assert clf.predict_proba(TEXTS).shape == (6, 2)


def test_pipeline_cross_validation_and_search():
    y = ["billing", "shipping", "refund request"] * 2
    pipeline = make_pipeline(
        FunctionTransformer(lambda X: [x.lower() for x in X]), make()
    )
    assert pipeline.fit(TEXTS, y).predict(TEXTS).shape == (6,)
    assert cross_val_score(make(), TEXTS, y, cv=2).shape == (2,)
    losses = cross_val_score(make(), TEXTS, y, cv=2, scoring="neg_log_loss")
    assert np.isfinite(losses).all()
    prompts = [TOPIC, PromptTemplate("{text} is about", chat=False)]
    search = GridSearchCV(make(), {"prompt": prompts}, cv=2).fit(TEXTS, y)
    assert search.best_params_["prompt"] in prompts


def test_scikit_learns_calibration_of_the_frozen_classifier():
    texts = [f"text {at}" for at in range(30)]
    y = ["billing", "shipping", "refund request"] * 10
    calibrated = CalibratedClassifierCV(FrozenEstimator(make()), method="sigmoid")
    calibrated.fit(texts, y)
    np.testing.assert_allclose(calibrated.predict_proba(texts).sum(axis=1), 1.0)


# -------------------------------------------------------------- candidate labels


def test_candidates_of_each_text():
    clf = make()
    candidates = [["billing", "shipping"], ["refund request", "billing"]]
    proba = clf.predict_proba(TEXTS[:2], labels=candidates)
    assert (proba[0] > 0).tolist() == [True, False, True]
    assert (proba[1] > 0).tolist() == [True, True, False]
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    for at in range(2):
        alone = make(labels=candidates[at]).label_logprobs(TEXTS[at : at + 1])
        columns = [clf.classes_.tolist().index(name) for name in alone.classes]
        row = clf.label_logprobs(TEXTS[:2], labels=candidates).values[at, columns]
        np.testing.assert_allclose(row, alone.values[0], atol=1e-12)


def test_candidates_alone_are_enough():
    clf = make(labels=None)
    scores = clf.label_logprobs(TEXTS[:2], labels=[["b", "a"], ["c", "a"]])
    assert scores.classes.tolist() == ["a", "b", "c"]
    assert np.isneginf(scores.values).tolist() == [
        [False, False, True],
        [False, True, False],
    ]


@pytest.mark.parametrize("value", [["a", "b"], "a|b", "a | b", '["a", "b"]'])
def test_candidates_in_a_column(value):
    frame = pd.DataFrame({"text": ["x"], "options": [value]})
    proba = make(labels=None).predict_proba(frame, labels="options")
    assert proba.shape == (1, 2)


def test_unknown_candidates():
    with raises(
        "Text 1: 'bill' is not one of the labels: 'shipping', 'billing', 'refund "
        "request'. Did you mean 'billing'? For other candidates, leave out labels.",
        LabelError,
    ):
        make().predict(
            TEXTS[:2], labels=[["billing", "shipping"], ["bill", "shipping"]]
        )


def test_as_many_candidates_as_texts():
    with raises("labels must hold the candidates of each text: got 1 for 2 texts."):
        make().predict(TEXTS[:2], labels=[["billing", "shipping"]])


@pytest.mark.parametrize("labels", [NAMES, None])
@pytest.mark.parametrize("of_texts", [list, np.array, pd.Series])
def test_a_string_is_not_a_list_of_candidates(labels, of_texts):
    message = (
        "The candidate labels of each text must be a list of names, such as "
        "['billing', 'shipping']. Got the string 'spam' instead."
    )
    with raises(message):
        make(labels).predict(TEXTS[:2], labels=of_texts(["spam", "hot"]))


# ------------------------------------------------------------------------ frames


def test_frame_keeps_its_columns_and_gets_the_results():
    frame = pd.DataFrame({"id": [7, 8], "text": TEXTS[:2]}, index=["r", "s"])
    result = make().classify_frame(frame, probabilities=True)
    assert result.columns.tolist() == [
        "id",
        "text",
        "label",
        "probability",
        "p(billing)",
        "p(refund request)",
        "p(shipping)",
        "label_mass",
        "unresolved",
        "truncated",
    ]
    assert result.index.tolist() == ["r", "s"]
    proba = make().predict_proba(TEXTS[:2])
    np.testing.assert_array_equal(result["probability"], proba.max(axis=1))
    np.testing.assert_array_equal(result[[f"p({n})" for n in sorted(NAMES)]], proba)
    assert result["label"].tolist() == make().predict(TEXTS[:2]).tolist()


def test_frame_sets_bad_rows_aside():
    frame = pd.DataFrame({"text": ["good", None, "  ", "fine", float("nan")]})
    result = make().classify_frame(frame, on_error="set_aside")
    assert (result["error"] == "").tolist() == [True, False, False, True, False]
    assert result["error"][1] == "there is no text: it is empty or missing."
    assert result["label"].isna().tolist() == [False, True, True, False, True]
    assert result["probability"].isna().tolist() == [False, True, True, False, True]
    assert result["truncated"].isna().sum() == 3
    np.testing.assert_allclose(
        result["probability"][[0, 3]],
        make().predict_proba(["good", "fine"]).max(axis=1),
    )


def test_frame_raises_on_bad_rows_by_default():
    frame = pd.DataFrame({"text": ["good", ""]}, index=[3, 4])
    with raises(
        "Row 4: there is no text: it is empty or missing. Pass on_error='set_aside' to "
        "continue with the other rows.",
        DataError,
    ):
        make().classify_frame(frame)


def test_a_row_too_long_is_set_aside_and_the_rest_goes_on():
    prompt = PromptTemplate("{text}\nTopic:", chat=False, too_long="error")
    engine = hashed_engine(len(byte_level()), context_length=40)
    frame = pd.DataFrame({"text": ["short", "long " * 100, "brief"]})
    result = make(prompt=prompt, engine=engine).classify_frame(
        frame, on_error="set_aside"
    )
    assert result["label"].isna().tolist() == [False, True, False]
    assert result["error"][1].startswith("A prompt needs ")


def test_truncated_rows_are_told():
    engine = hashed_engine(len(byte_level()), context_length=40)
    scores = make(engine=engine).label_logprobs(["short", "long " * 100])
    assert scores.truncated.tolist() == [False, True]


def test_results_do_not_overwrite_columns():
    frame = pd.DataFrame({"text": ["x"], "label": ["gold"]})
    result = make().classify_frame(frame)
    assert result["label"].tolist() == ["gold"]
    assert result["predicted_label"].tolist() == make().predict(["x"]).tolist()
    assert "probability" in result.columns


def test_results_find_a_free_name():
    frame = pd.DataFrame({"text": ["x"], "label": ["a"], "predicted_label": ["b"]})
    result = make().classify_frame(frame)
    assert result.columns.is_unique
    assert result["predicted_predicted_label"][0] in NAMES


def test_a_row_without_any_label_mass_is_set_aside():
    def next_logprobs(token_ids):
        blocked = byte_level().decode(token_ids).startswith("<|bos|>mute")
        return np.full(400, -np.inf if blocked else -np.log(400))

    engine = FakeEngine.from_function(next_logprobs, 400)
    frame = pd.DataFrame({"text": ["hello", "mute", ""]})
    result = make(engine=engine).classify_frame(frame, on_error="set_aside")
    assert result["label"].isna().tolist() == [False, True, True]
    assert (
        result["error"][1] == "none of the labels has any probability (label mass 0)."
    )
    with raises(
        "Row 1: none of the labels has any probability (label mass 0). Pass "
        "on_error='set_aside' to continue with the other rows."
    ):
        make(engine=engine).classify_frame(frame[:2])
    with raises(
        "Text 1 gives none of the labels any probability (label mass 0): the model "
        "cannot answer with a label there. Check the label words with `classify "
        "labels`."
    ):
        make(engine=engine).predict(["hello", "mute"])


def test_a_text_column_may_be_called_by_a_number():
    clf, texts = make(), [TEXTS[0], TEXTS[1]]
    frame = pd.DataFrame({0: texts, "text": texts[::-1]})
    found = clf.classify_frame(frame, text_column=0)
    assert found["label"].tolist() == clf.predict(texts).tolist()
    assert (
        found["probability"].tolist() == clf.predict_proba(texts).max(axis=1).tolist()
    )


def test_other_text_column_and_further_columns():
    prompt = PromptTemplate("{title}: {text}\nTopic:", chat=False)
    frame = pd.DataFrame({"title": ["T", None], "body": ["x", "y"], "n": [1, 2]})
    clf = make(prompt=prompt)
    clf.classify_frame(frame, text_column="body")
    shown = [byte_level().decode(r.prompt_token_ids) for r in clf.engine.requests]
    assert shown == ["<|bos|>T: x\nTopic:", "<|bos|>: y\nTopic:"]


def test_missing_columns():
    with raises(
        "There is no column 'text' for the text. Columns: 'body'. Did you mean 'body'? "
        "Then give text_column='body'.",
        DataError,
    ):
        make().classify_frame(pd.DataFrame({"body": ["x"]}))
    with raises("There is no column 'text' for the text. Columns: 'body'.", DataError):
        make().predict(pd.DataFrame({"body": ["x"]}))
    with raises(
        "There is no column 'title' for the prompt's {title}. Columns: 'text'.",
        DataError,
    ):
        make(prompt="{title} {text}").predict(pd.DataFrame({"text": ["x"]}))


# --------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            "one text",
            (
                "Texts must be a sequence of strings. Got 'one text' instead: put a "
                "single text in a list."
            ),
        ),
        (
            [["a"], ["b"]],
            (
                "Texts must have one dimension. Got shape (2, 1) instead: pass one "
                "column."
            ),
        ),
        (
            ["a", 3],
            (
                "Texts must be strings. Text 1 is 3 of type int instead: convert it "
                "first."
            ),
        ),
        (["a", ""], NO_TEXT),
        (["a", None], NO_TEXT),
    ],
    ids=["string", "two-dimensional", "number", "empty", "missing"],
)
def test_bad_texts_cost_no_model_call(texts, message):
    clf = make()
    with raises(message):
        clf.predict(texts)
    assert clf.engine.n_requests == 0


def test_texts_without_the_prompts_columns():
    with raises(
        "The prompt needs the columns 'title': pass a DataFrame that has them."
    ):
        make(prompt="{title} {text}").predict(["x"])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"labels": ["a"]}, LabelError),
        ({"labels": ["a", "a"]}, LabelError),
        ({"prompt": "no placeholder"}, PromptError),
        ({"strategy": "guess"}, ConfigError),
        ({"tolerance": -1.0}, ConfigError),
    ],
    ids=["one-label", "duplicates", "prompt", "strategy", "tolerance"],
)
def test_bad_parameters_cost_no_model_call_even_without_texts(options, error):
    clf = make(**options)
    for texts in ([], TEXTS):
        with pytest.raises(error):
            clf.predict(texts)
    assert clf.engine.n_requests == 0


@pytest.mark.parametrize("name", ["dtype", "speculation", "model"])
def test_engine_options_hold_no_parameter_of_its_own(name):
    clf = ZeroShotClassifier(NAMES, engine_options={name: "x"})
    with raises(
        f"engine_options has {name!r}, which is a parameter of its own: give it there.",
        ConfigError,
    ):
        clf.predict(TEXTS)


def test_engine_options_reach_the_engine():
    clf = ZeroShotClassifier(
        NAMES, engine="transformers", engine_options={"max_model_len": 512}
    )
    with raises(
        "The transformers engine has no option 'max_model_len'. Its options are "
        "attn_implementation, cache_bytes; those of vLLM need engine='vllm'.",
        ConfigError,
    ):
        clf.predict(TEXTS)
    clf.set_params(engine_options={"cache_bytes": 1 << 20})
    assert clf.load_engine().name == "transformers"
    assert clone(clf).load_engine() is clf.load_engine()


def test_speculation_needs_vllm():
    clf = ZeroShotClassifier(NAMES, engine="transformers", speculation="ngram")
    with raises(
        "The transformers engine has no speculative decoding: use engine='vllm', "
        "or leave speculation out.",
        ConfigError,
    ):
        clf.predict(TEXTS)


def test_an_engine_that_fails_is_an_error_and_no_label():
    engine = hashed_engine(30)
    with pytest.raises(InputError, match="outside the vocabulary of 30 tokens"):
        make(engine=engine).predict(TEXTS)


def test_low_label_mass_is_told_once_for_the_same_question(caplog):
    clf = make()
    for _ in range(2):
        clf.predict(TEXTS)
    assert [text[:22] for text in caplog.messages] == ["The mean label mass is"]
    clf.set_params(prompt=PromptTemplate("{text} is about", chat=False)).predict(TEXTS)
    assert len(caplog.messages) == 2


def test_audit_needs_no_engine():
    audit = make(engine="no such engine").audit()
    assert {word.label for word in audit.words} == set(NAMES)


def test_label_sets_are_taken_as_they_are():
    labels = LabelSet.parse({"billing": "Invoices", "shipping": ["parcel", "delivery"]})
    clf = make(labels=labels)
    assert clf.classes_.tolist() == ["billing", "shipping"]
    assert copy.deepcopy(labels) == labels
