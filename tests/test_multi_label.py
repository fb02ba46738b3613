"""Any number of labels for a text: estimator, calibration, thresholds, columns."""

import logging
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score, hamming_loss, log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.utils import get_tags

from classify import LabelCalibrator, LabelSet, PromptTemplate
from classify.cells import join_names
from classify.decision import LabelThresholds, fit_thresholds
from classify.engines import FakeEngine
from classify.errors import ConfigError, DataError, InputError, LabelError, PromptError
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.labels.indicators import indicators_of
from classify.rows.from_cells import candidates_of_cells
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine, hashed_logprobs

NAMES = ["shipping", "billing", "refund request"]
TEXTS = ["My invoice is wrong.", "Where is my parcel?", "Money back!", "a", "b", "c"]
PLAIN = "{text}\nAbout {label}, {labels}:"
TRUE = [["billing"], ["shipping"], ["refund request", "billing"], [], ["billing"], []]
MATRIX = [[1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]


def make(labels=NAMES, **options):
    engine = options.pop("engine", None) or hashed_engine(len(byte_level()))
    options = {
        "prompt": PromptTemplate(PLAIN, chat=False),
        "tolerance": 0.0,
        **options,
    }
    return ZeroShotMultiLabelClassifier(
        labels, engine=engine, tokenizer=byte_level(), **options
    )


def raises(message: str, error=InputError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


# ------------------------------------------------------------------ what comes out


def slow_proba(next_logprobs, tokenizer, text, label, words, space):
    """p(yes), and p(yes or no), a token after the other: obviously right."""
    shown = ", ".join(spellings[0] for spellings in words.values())
    before = f"{text}\nAbout {label}, {shown}:"

    def encode(whole):
        ids = tokenizer.backend(whole, add_special_tokens=False)["input_ids"]
        return (*tokenizer.bos_ids, *ids)

    mass = dict.fromkeys(words, 0.0)
    for answer, spellings in words.items():
        for word in spellings:
            ids = encode(before + space + word)
            steps = range(len(encode(before)), len(ids))
            logprobs = [next_logprobs(ids[:at])[ids[at]] for at in steps]
            mass[answer] += np.exp(sum(logprobs))
    both = mass["yes"] + mass["no"]
    return mass["yes"] / both, both


@pytest.mark.parametrize(
    ("yes", "no", "space"),
    [
        (("Yes", "yes"), ("No", "no"), " "),
        (("Ja",), ("Nein", "Nö"), " "),
        (("はい",), ("いいえ",), ""),
    ],
    ids=["English", "German", "Japanese"],
)
def test_probabilities_are_those_of_one_pass_for_each_label_and_word(yes, no, space):
    tokenizer = byte_level()
    clf = make({"billing": "invoices", "C|C++": None}, yes_words=yes, no_words=no)
    assert clf.classes_.tolist() == ["C|C++", "billing"]
    next_logprobs = hashed_logprobs(len(tokenizer))
    words = {"yes": yes, "no": no}
    expected = np.array(
        [
            [
                slow_proba(next_logprobs, tokenizer, text, label, words, space)
                for label in ("C|C++", "billing: invoices")
            ]
            for text in TEXTS
        ]
    )
    np.testing.assert_allclose(clf.predict_proba(TEXTS), expected[..., 0], atol=1e-9)
    frame = clf.classify_frame(pd.DataFrame({"text": TEXTS}))
    np.testing.assert_allclose(frame["label_mass"], expected[..., 1].min(axis=1))


def test_a_label_depends_on_no_other_and_order_changes_nothing():
    proba = make().predict_proba(TEXTS)
    for at, name in enumerate(sorted(NAMES)):
        others = [name, "something else"]
        own = make(others).predict_proba(TEXTS)[:, sorted(others).index(name)]
        np.testing.assert_allclose(own, proba[:, at], atol=1e-12)
    turned = make(NAMES[::-1]).predict_proba(TEXTS[::-1])[::-1]
    np.testing.assert_array_equal(turned, proba)


def test_all_questions_about_a_text_go_out_together_and_the_text_first():
    clf = make()
    clf.predict(TEXTS[:2])
    tokenizer = byte_level()
    sent = [tokenizer.decode(each.prompt_token_ids) for each in clf.engine.requests]
    assert len(sent) == 6
    for at, text in enumerate(TEXTS[:2]):
        for name, prompt in zip(sorted(NAMES), sent[3 * at : 3 * at + 3], strict=True):
            assert prompt.endswith(f"{text}\nAbout {name}, Yes, No:")


def test_predict_compares_with_thresholds_of_each_label():
    clf = make(thresholds={"billing": 0.0, "shipping": 1.0})
    proba, found = clf.predict_proba(TEXTS), clf.predict(TEXTS)
    assert found.shape == (6, 3)
    assert found[:, 0].all()
    np.testing.assert_array_equal(found[:, 1], proba[:, 1] >= 0.5)
    assert not found[:, 2].any()
    assert found.dtype == np.int64
    # Changed in place.
    clf.thresholds["billing"] = 1.0
    np.testing.assert_array_equal(clf.predict(TEXTS)[:, 0], proba[:, 0] >= 1.0)


def test_no_text_gives_no_result():
    clf = make()
    assert clf.predict([]).shape == (0, 3)
    assert clf.predict_proba([]).shape == (0, 3)
    frame = clf.classify_frame(pd.DataFrame({"text": []}), probabilities=True)
    assert list(frame.columns)[1:5] == [
        "labels",
        "p(billing)",
        "p(refund request)",
        "p(shipping)",
    ]


def test_the_demo_model_answers_in_its_own_chat_template():
    clf = ZeroShotMultiLabelClassifier(NAMES, thresholds=0.0)
    frame = clf.classify_frame(pd.DataFrame({"text": TEXTS[:2]}))
    assert frame["labels"].tolist() == ["billing|refund request|shipping"] * 2
    audit = clf.audit()
    assert {each.word for each in audit.words} == {"Yes", "yes", "No", "no"}


def test_several_orders_and_codes_are_averaged():
    one, other, both = (
        make(prompt=PromptTemplate(PLAIN, chat=False, **settings), **words)
        for settings, words in [
            ({}, {}),
            ({}, {}),
            ({"n_orders": 2}, {}),
        ]
    )
    template = PLAIN.replace("{labels}", "No, Yes")
    other.set_params(prompt=PromptTemplate(template, chat=False))
    frame = both.classify_frame(pd.DataFrame({"text": TEXTS}))
    assert frame["agreement"].isin([0.5, 1.0]).all()
    joint = []
    for clf in (one, other):
        scores = clf.scorer().score([{"text": text} for text in TEXTS]).scores
        joint.append(np.exp(scores.values))
    mean = np.mean(joint, axis=0)
    expected = (mean[:, 1] / mean.sum(axis=1)).reshape(6, 3)
    np.testing.assert_allclose(both.predict_proba(TEXTS), expected)


def test_each_prompt_of_an_ensemble_asks_about_the_label():
    other = "{label} in {text}, {labels}?"
    first, second, both = (
        make(prompt=PromptTemplate(template, chat=False, **members))
        for template, members in [
            (PLAIN, {}),
            (other, {}),
            (PLAIN, {"ensemble": [PromptTemplate(other, chat=False)]}),
        ]
    )
    mean = (first.predict_proba(TEXTS) + second.predict_proba(TEXTS)) / 2
    np.testing.assert_allclose(both.predict_proba(TEXTS), mean)
    ours = make(prompt=PromptTemplate(PLAIN, ensemble=[PromptTemplate()]))
    ours.predict(TEXTS[:1])
    sent = [byte_level().decode(each.prompt_token_ids) for each in ours.engine.requests]
    asked = [prompt for prompt in sent if "Does the label below apply" in prompt]
    assert len(asked) == len(NAMES)


def test_the_label_may_stand_in_the_answer():
    body = PromptTemplate("{text}\nApplies?", chat=False, answer_prefix="\n{label}:")
    whole = PromptTemplate("{text}\nApplies?\n{label}:", chat=False)
    np.testing.assert_array_equal(
        make(prompt=body).predict_proba(TEXTS), make(prompt=whole).predict_proba(TEXTS)
    )
    with raises(
        "answer_prefix='\\n{label}:' has the label, but with strategy='reason' the "
        "model must know it before it thinks: put {label} into the template.",
        PromptError,
    ):
        make(prompt=body, strategy="reason").predict(TEXTS)


@pytest.mark.parametrize("words", [{}, {"yes_words": ["Ja"], "no_words": ["Nein"]}])
def test_our_recipe_puts_the_label_behind_the_text(words):
    clf = ZeroShotMultiLabelClassifier({"billing": "invoices", "C|C++": None}, **words)
    scorer = clf.scorer()
    rows = [{"text": "Hi."}]
    prompts = [each.encode(rows, None)[0] for each in scorer.each()]
    tokenizer = scorer.model.load_tokenizer()
    written = [tokenizer.decode(prompt.token_ids) for prompt in prompts]
    shown = "Ja, Nein" if words else "Yes, No"
    asked = f"Does the label below apply to the text? Answer with one of: {shown}."
    start, _, end = written[0].partition("C|C++")
    assert start.endswith(f"Text: Hi.\n\n{asked}\n\nLabel: ")
    assert written[1] == f"{start}billing: invoices{end}"


# -------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize(
    "Y",
    [
        TRUE,
        MATRIX,
        np.array(MATRIX, dtype=bool),
        csr_matrix(MATRIX),
        pd.DataFrame(MATRIX, columns=["billing", "refund request", "shipping"]),
        pd.DataFrame(MATRIX, columns=sorted(NAMES))[["shipping", *sorted(NAMES)[:2]]],
        pd.Series(TRUE),
    ],
    ids=["names", "list", "bool", "sparse", "frame", "turned frame", "series"],
)
def test_forms_of_indicators(Y):
    clf = make().fit(TEXTS, Y)
    expected = np.mean([(clf.predict(TEXTS) == MATRIX).all(axis=1)])
    assert clf.score(TEXTS, Y) == expected


def test_names_may_come_in_either_unicode_form():
    Y = [["cafe\u0301"], ["caf\u00e9", "bar"], ["caf\u00e9", "cafe\u0301"]]
    labels = LabelSet.parse(["caf\u00e9", "bar"])
    assert indicators_of(labels, Y, 3).values.tolist() == [[0, 1], [1, 1], [0, 1]]


def test_labels_are_learnt_from_names():
    clf = make(None).fit(TEXTS, TRUE)
    assert clf.classes_.tolist() == sorted(NAMES)
    frame = pd.DataFrame(MATRIX, columns=sorted(NAMES))
    assert make(None).fit(TEXTS, frame).classes_.tolist() == sorted(NAMES)


def test_metrics_and_model_selection_of_scikit_learn():
    texts, matrix = TEXTS * 4, np.array(MATRIX * 4)
    clf = make()
    found = cross_val_predict(clf, texts, matrix, cv=2)
    np.testing.assert_array_equal(found, clf.predict(texts))
    proba = cross_val_predict(clf, texts, matrix, cv=2, method="predict_proba")
    np.testing.assert_allclose(proba, clf.predict_proba(texts))
    assert 0.0 <= f1_score(matrix, found, average="macro") <= 1.0
    assert 0.0 <= hamming_loss(matrix, found) <= 1.0
    assert 0.0 <= roc_auc_score(matrix, proba) <= 1.0
    search = GridSearchCV(clf, {"thresholds": [0.2, 0.8]}, cv=2, scoring="f1_macro")
    search.fit(texts, matrix)
    assert search.best_params_["thresholds"] in (0.2, 0.8)
    tags = get_tags(clf)
    assert tags.classifier_tags.multi_label
    assert not tags.requires_fit


def test_clone_and_pickle_keep_what_was_given():
    thresholds = LabelThresholds({"billing": 0.3}, "f1", None, 0.95, {}, 6)
    clf = make(thresholds=thresholds)
    copied = clone(clf)
    assert copied.get_params()["thresholds"] == thresholds
    clf.predict(TEXTS[:1])
    state = clf.__getstate__()
    assert not {"_made", "_checked"} & state.keys()
    assert pickle.loads(pickle.dumps(thresholds)) == thresholds


# --------------------------------------------------------------------- calibration


def labelled(n=80):
    rng = np.random.default_rng(3)
    texts = [f"{TEXTS[at % 6]} {at}" for at in range(n)]
    return texts, (rng.random((n, 3)) < [0.1, 0.5, 0.8]).astype(int)


@pytest.mark.parametrize("method", ["auto", "affine", "temperature"])
def test_each_label_is_calibrated_by_itself(method):
    texts, true = labelled()
    clf = make(calibrator=method).fit(texts, true)
    raw, proba = make().predict_proba(texts), clf.predict_proba(texts)
    before = [log_loss(true[:, at], raw[:, at]) for at in range(3)]
    after = [log_loss(true[:, at], proba[:, at]) for at in range(3)]
    assert (np.array(after) < before).all()
    if method != "temperature":  # which moves no share
        np.testing.assert_allclose(proba.mean(axis=0), true.mean(axis=0), atol=0.1)
    # The same as a calibrator of that label's two answers.
    scores = make().scorer().score([{"text": text} for text in texts]).scores
    if method == "affine":
        share = (true[:, 1].sum() + 1) / 82
        own = LabelCalibrator("affine", prior={"yes": share, "no": 1 - share})
        own.fit(scores[1::3], np.where(true[:, 1], "yes", "no"))
        np.testing.assert_allclose(
            own.predict_proba(scores[1::3])[:, 1], proba[:, 1], atol=1e-12
        )


def test_a_calibration_is_saved_and_used_from_its_file(tmp_path):
    texts, true = labelled()
    clf = make(calibrator="affine").fit(texts, true)
    path = tmp_path / "calibration.json"
    clf.calibrator_.save(path)
    expected = clf.predict_proba(TEXTS)
    for given in (path, str(path), clf.calibrator_):
        used = make(calibrator=given)
        np.testing.assert_allclose(used.predict_proba(TEXTS), expected)
        assert clone(used).fit(TEXTS).predict(TEXTS).shape == (6, 3)
    # A label's calibration goes with the label, whatever other labels there are.
    fewer = make(["billing", "shipping"], calibrator=path)
    np.testing.assert_allclose(fewer.predict_proba(TEXTS), expected[:, [0, 2]])
    with raises(
        f"The calibration {str(path)!r} does not cover the label 'praise': fit it with "
        "all labels.",
        ConfigError,
    ):
        make([*NAMES, "praise"], calibrator=path).predict(TEXTS)
    described = make({"billing": "money", "shipping": None}, calibrator=path)
    with raises(
        f"The calibration {str(path)!r} of 'billing' was fitted on something else. "
        "label: fitted with billing, now billing: money. Fit it again.",
        ConfigError,
    ):
        described.predict(TEXTS)
    path.write_text('{"format": "else"}')
    with raises(
        f"{str(path)!r} is not a calibration of yes/no answers: its format must be "
        "'classify yes/no calibration 1'. Got 'else' instead. Give a file that "
        "ZeroShotMultiLabelClassifier.calibrator_.save wrote.",
        DataError,
    ):
        make(calibrator=path).predict(TEXTS)


def test_a_calibrator_that_is_not_fitted_is_refused():
    clf = make(calibrator="affine")
    with raises(
        "The calibrator of this ZeroShotMultiLabelClassifier, 'affine', is not fitted: "
        "call fit(texts, Y), or give a fitted one, or its file.",
        NotFittedError,
    ):
        clf.predict(TEXTS)
    with raises(
        "Without Y, the share of texts that a label applies to is unknown: pass Y to "
        "fit, or use a calibrator that needs no labels, with that share as its prior, "
        "such as "
        "LabelCalibrator('prior_matching', prior={'yes': 0.1, 'no': 0.9}).",
        ConfigError,
    ):
        clf.fit(TEXTS)
    prior = {"yes": 0.1, "no": 0.9}
    shifted = make(calibrator=LabelCalibrator("prior_matching", prior=prior))
    mean = shifted.fit(TEXTS).predict_proba(TEXTS).mean(axis=0)
    np.testing.assert_allclose(mean, 0.1, atol=1e-6)
    assert clf.engine.n_requests == 0


# ---------------------------------------------------------------------- thresholds


def test_thresholds_of_the_greatest_f1():
    rng = np.random.default_rng(0)
    proba = rng.random((60, 2)).round(2)
    true = (rng.random((60, 2)) < proba).astype(int)
    found = fit_thresholds(proba, true, ["a", "b"])
    for at, name in enumerate("ab"):
        every = [f1_score(true[:, at], proba[:, at] >= t) for t in np.unique(proba)]
        own = f1_score(true[:, at], proba[:, at] >= found.thresholds[name])
        assert own == pytest.approx(max(every))
        assert found.reached[name] == pytest.approx(own)


def test_promises_hold_over_many_draws():
    """Each kind of promise is broken in at most one draw of twenty (and chance)."""
    rng = np.random.default_rng(1)
    n_draws, n_texts = 300, 300
    broken = dict.fromkeys(["precision", "recall", "risk"], 0)
    kept = dict.fromkeys(broken, 0)
    # p(true | p) = p: the shares above any threshold are known in closed form.
    levels = {"precision": 0.7, "recall": 0.9, "risk": 0.3}
    for _ in range(n_draws):
        proba = rng.random((n_texts, 1))
        true = (rng.random((n_texts, 1)) < proba).astype(int)
        for target, level in levels.items():
            at = fit_thresholds(proba, true, ["a"], target=target, level=level)
            threshold = at.thresholds["a"]
            kept[target] += 0.0 < threshold < 1.0
            if threshold == np.inf:
                continue
            precision = (1.0 + threshold) / 2.0
            recall = 1.0 - threshold**2
            good = {
                "precision": precision >= level,
                "recall": recall >= level,
                "risk": 1.0 - precision <= level,
            }
            broken[target] += not good[target]
    assert max(broken.values()) <= 0.05 * n_draws + 3 * np.sqrt(0.05 * n_draws)
    assert min(kept.values()) > 0.9 * n_draws


def test_what_no_threshold_can_keep_is_said(caplog):
    caplog.set_level(logging.WARNING)
    proba = np.linspace(0.9, 0.1, 9)[:, None]
    true = (proba > 0.5).astype(int)
    precise = fit_thresholds(proba, true, ["a"], target="precision", level=0.9)
    assert precise.thresholds == {"a": np.inf}
    whole = fit_thresholds(proba, true, ["a"], target="recall", level=0.9)
    assert whole.thresholds == {"a": 0.0}
    never = fit_thresholds(proba, 0 * true, ["a"])
    assert never.thresholds == {"a": np.inf}
    assert [record.message for record in caplog.records] == [
        (
            "No threshold keeps the precision of label 'a' at 0.9 or more, at "
            "confidence level 0.95, with 9 labelled texts, 4 of which have it: it "
            "will never be assigned. That takes about 64 or more such texts."
        ),
        (
            "No threshold keeps the recall of label 'a' at 0.9 or more, at confidence "
            "level 0.95, with 4 labelled texts that have it: it will be assigned to "
            "every text. That takes 29 or more."
        ),
        (
            "Label 'a' applies to none of the 9 labelled texts, so it will never be "
            "assigned: add texts that it applies to."
        ),
    ]


def test_thresholds_are_saved_and_used_where_they_were_fitted(tmp_path):
    texts, true = labelled()
    clf = make(calibrator="affine").fit(texts, true)
    held, truth = [f"{text}!" for text in texts], true
    found = clf.fit_thresholds(held, truth, target="recall", level=0.5)
    path = tmp_path / "thresholds.json"
    found.save(path)
    assert LabelThresholds.load(path) == found
    for given in (found, path, str(path), found.thresholds):
        used = clone(clf).set_params(calibrator=clf.calibrator_, thresholds=given)
        proba = used.predict_proba(held)
        expected = proba >= [found.thresholds[name] for name in used.classes_]
        np.testing.assert_array_equal(used.predict(held), expected)
    for given, what in (
        (path, f"The file of thresholds {str(path)!r}"),
        (found, "The LabelThresholds object"),
    ):
        message = (
            rf"^{re.escape(what)} was fitted on something else\. calibration: fitted "
            r"with sha256:\w+, now none\. Fit it again\.$"
        )
        with pytest.raises(ConfigError, match=message):
            make(thresholds=given).predict(held)
    path.write_text("[]")
    with raises(
        f"{str(path)!r} is damaged, or is not a file of thresholds: give a file that "
        "LabelThresholds.save wrote.",
        DataError,
    ):
        make(thresholds=path).predict(held)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target": "f2"},
            (
                "The 'target' parameter of fit_thresholds must be one of 'f1', "
                "'precision', 'recall', 'risk'. Got 'f2' instead."
            ),
        ),
        (
            {"target": "recall"},
            (
                "The 'level' parameter of fit_thresholds must be a number, between 0 "
                "and 1, both excluded. Got None instead."
            ),
        ),
        (
            {"level": 0.9},
            (
                "level is for target='precision' or target='recall' or target='risk': "
                "give that, or drop level."
            ),
        ),
    ],
)
def test_targets_that_are_no_targets(options, message):
    with raises(message, ConfigError):
        fit_thresholds([[0.5]], [[1]], ["a"], **options)


# ------------------------------------------------------------------------- columns


def test_columns_of_a_frame_can_be_read_back_exactly():
    names = ["C|C++", "[x]", "plain"]
    for labels in (names, ["a", "b"]):
        frame = make(labels, thresholds=0.5).classify_frame(
            pd.DataFrame({"text": TEXTS, "labels": "old"}), probabilities=True
        )
        clf = make(labels)
        read = candidates_of_cells(frame["predicted_labels"], "labels")
        expected = [clf.classes_[row == 1].tolist() for row in clf.predict(TEXTS)]
        assert read == expected
        np.testing.assert_allclose(
            frame[[f"p({name})" for name in clf.classes_]], clf.predict_proba(TEXTS)
        )
    assert candidates_of_cells([join_names([])], "labels") == [[]]


def test_rows_without_a_text_are_set_aside():
    frame = pd.DataFrame({"text": ["good", "", None]})
    result = make().classify_frame(frame, on_error="set_aside")
    assert result["error"].tolist() == [
        "",
        "there is no text: it is empty or missing.",
        "there is no text: it is empty or missing.",
    ]
    assert result["labels"].isna().tolist() == [False, True, True]
    told = []
    make().classify_frame(frame, on_error="set_aside", progress=told.append)
    assert sum(told) == 3
    with pytest.raises(DataError, match=r"^Row 1: there is no text"):
        make().classify_frame(frame)


def test_a_row_where_neither_answer_has_any_probability_is_set_aside():
    def next_logprobs(token_ids):
        mute = re.search(r"mute\nAbout s", byte_level().decode(token_ids))
        return np.full(400, -np.inf if mute else -np.log(400))

    clf = make(engine=FakeEngine.from_function(next_logprobs, 400))
    frame = pd.DataFrame({"text": ["hello", "", "mute"]})
    result = clf.classify_frame(frame, on_error="set_aside")
    problem = "neither yes nor no has any probability for label 'shipping'."
    empty = "there is no text: it is empty or missing."
    assert result["error"].tolist() == ["", empty, problem]
    assert result["labels"].isna().tolist() == [False, True, True]
    with raises(
        f"Row 2: {problem} Pass on_error='set_aside' to continue with the other rows.",
    ):
        clf.classify_frame(frame.drop(index=1))
    texts, leave = ["hello", "mute"], "Leave it out, or use classify_frame(…, "
    leave += "on_error='set_aside'), which continues with the others."
    clf.set_params(thresholds=0.1)
    for use in (
        lambda: clf.predict(texts),
        lambda: clf.predict_proba(texts),
        lambda: make(engine=clf.engine, calibrator="affine").fit(texts, MATRIX[:2]),
    ):
        with raises(f"Text 1: {problem} {leave}", DataError):
            use()


# ----------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"labels": ["a", "a"]},
            LabelError,
            (
                "Labels must be unique. 'a' declared more than once: remove or rename "
                "the repeats."
            ),
        ),
        (
            {"thresholds": {"biling": 0.5}},
            ConfigError,
            (
                "Among the thresholds, 'biling' is not one of the labels: 'shipping', "
                "'billing', 'refund request'. Did you mean 'billing'?"
            ),
        ),
        (
            {"thresholds": {"billing": 1.5}},
            ConfigError,
            (
                "The threshold of label 'billing' must be a number, from 0 to 1. Got "
                "1.5 instead."
            ),
        ),
        (
            {"thresholds": -0.1},
            ConfigError,
            (
                "The 'thresholds' parameter of ZeroShotMultiLabelClassifier must be a "
                "number, from 0 to 1, a mapping of labels to such numbers, what "
                "fit_thresholds returned, or its file (.json). Got -0.1 instead."
            ),
        ),
        (
            {"yes_words": []},
            ConfigError,
            (
                "The 'yes_words' parameter of ZeroShotMultiLabelClassifier must be a "
                "sequence of at least one word. Got [] instead."
            ),
        ),
        (
            {"no_words": "no"},
            ConfigError,
            (
                "The 'no_words' parameter of ZeroShotMultiLabelClassifier must be a "
                "sequence of at least one word. Got 'no' instead."
            ),
        ),
        (
            {"yes_words": ["si", "no"]},
            ConfigError,
            (
                "yes_words and no_words both contain 'no', so the two answers could "
                "not be told apart: remove it from one of them."
            ),
        ),
        (
            {"prompt": "{text}: yes or no?"},
            PromptError,
            (
                "The template '{text}: yes or no?' asks the same question for every "
                "label: put {label} where the label belongs, after the text."
            ),
        ),
        (
            {"prompt": PromptTemplate(PLAIN, ensemble=[PromptTemplate("{text}?")])},
            PromptError,
            (
                "The template '{text}?' asks the same question for every label: put "
                "{label} where the label belongs, after the text."
            ),
        ),
        (
            {"prompt": "auto"},
            PromptError,
            (
                "prompt='auto' chooses among prompts that list all labels, and cannot "
                "be used for yes/no questions: give a template with {text} and "
                "{label}, or None for the default."
            ),
        ),
        (
            {"prompt": "{label}?"},
            PromptError,
            (
                "The template '{label}?' asks the same question for every text: put "
                "{text}, or the name of a column in braces, where the text belongs."
            ),
        ),
        (
            {"calibrator": "magic"},
            ConfigError,
            None,
        ),
        (
            {"labels": None},
            NotFittedError,
            (
                "This ZeroShotMultiLabelClassifier has no labels: give `labels=[…]`, "
                "or call fit."
            ),
        ),
    ],
)
def test_bad_parameters_are_refused_before_a_model_is_loaded(options, error, message):
    clf = make(**options)
    pattern = "^The 'calibrator' parameter" if message is None else None
    with pytest.raises(error, match=pattern or "^" + re.escape(message) + "$"):
        (clf.fit(TEXTS, TRUE) if message is None else clf).predict(TEXTS)
    assert clf.engine.n_requests == 0


@pytest.mark.parametrize(
    ("Y", "error", "message"),
    [
        (
            MATRIX[:5],
            DataError,
            "Y must have one row for each of the 6 texts. Got 5 instead.",
        ),
        (
            np.ones((6, 2)),
            DataError,
            "Y must have a column for each of the 3 labels. Row 0 has 2 instead.",
        ),
        (
            np.full((6, 3), 2),
            LabelError,
            (
                "Row 0 of Y holds 2: give 1 where a label applies and 0 where it does "
                "not, or lists of label names."
            ),
        ),
        (
            np.full((6, 3), np.nan),
            LabelError,
            (
                "Row 0 of Y holds a missing value: give 1 where a label applies and 0 "
                "where it does not, or lists of label names."
            ),
        ),
        (
            pd.DataFrame(MATRIX, columns=sorted(NAMES))
            .astype("Int64")
            .replace(0, None),
            LabelError,
            (
                "Row 0 of Y holds a missing value: give 1 where a label applies and 0 "
                "where it does not, or lists of label names."
            ),
        ),
        (
            pd.DataFrame(MATRIX, columns=["billing", "refund request", "billing"]),
            LabelError,
            "Y has more than one column 'billing': remove one.",
        ),
        (
            ["billing"] * 6,
            LabelError,
            (
                "Row 0 of Y is 'billing': each row must be a list of label names, or "
                "a 0 or 1 for each label. Write ['billing']."
            ),
        ),
        (
            [["billing"], None, [], [], [], []],
            LabelError,
            None,
        ),
        (
            [["biling"], [], [], [], [], []],
            LabelError,
            (
                "In Y, 'biling' is not one of the labels: 'shipping', 'billing', "
                "'refund request'. Did you mean 'billing'?"
            ),
        ),
        (
            pd.DataFrame(MATRIX, columns=["billing", "shipping", "praise"]),
            LabelError,
            (
                "In Y, 'praise' is not one of the labels: 'shipping', 'billing', "
                "'refund request'."
            ),
        ),
        (
            pd.DataFrame({"billing": [0] * 6, "shipping": [1] * 6}),
            DataError,
            "Y has no column for the label 'refund request': give one for each label.",
        ),
    ],
)
def test_bad_indicators(Y, error, message):
    with pytest.raises(
        error, match="^Row 1 of Y is missing" if message is None else None
    ) as caught:
        make().fit(TEXTS, Y)
    if message is not None:
        assert str(caught.value) == message


def test_indicators_need_labels_or_names():
    with raises(
        "Y holds no names, and no labels are declared: give `labels=[…]` to the "
        "classifier, or Y as lists of names.",
        LabelError,
    ):
        make(None).fit(TEXTS, MATRIX)
    with raises(
        "No labels: give `labels=[…]` to the classifier, or `Y` to fit.", LabelError
    ):
        make(None).fit(TEXTS)
    assert make(LabelSet.parse(NAMES)).fit(TEXTS).classes_.tolist() == sorted(NAMES)


def test_thresholds_in_an_array_are_refused_before_and_after_others():
    clf = make()
    message = (
        "The 'thresholds' parameter of ZeroShotMultiLabelClassifier must be a number, "
        "from 0 to 1, a mapping of labels to such numbers, what fit_thresholds "
        "returned, or its file (.json). Got array([0.5, 0.5]) instead."
    )
    for thresholds in (np.full(2, 0.5), 0.5, np.full(2, 0.5)):
        clf.set_params(thresholds=thresholds)
        if isinstance(thresholds, float):
            clf.predict(TEXTS)
            continue
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            clf.predict(TEXTS)
