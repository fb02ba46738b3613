"""Comparing prompts on texts, with their labels and without."""

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import classify
from classify import LabelCalibrator, PromptTemplate, Verbalizer, ZeroShotClassifier
from classify.demo import labelled_csv
from classify.errors import ConfigError, DataError, LabelError, PromptError
from classify.estimators.prompt_choice import PromptTuning, TunedPrompt, tune_rows
from classify.estimators.tuning import tune_prompt
from classify.labels import LabelSet
from classify.metrics import mutual_information
from classify.prompts.candidates import candidate_prompts, few_shot_prompts

LABELS = ["billing", "shipping", "returns", "account", "technical problem", "praise"]
PROMPTS = {
    "terse": "{text} ->",
    "listed": PromptTemplate("{labels}\n{text}\nLabel:", options="inline"),
}


@pytest.fixture(scope="module")
def tickets():
    frame = pd.read_csv(labelled_csv()).head(24)
    return frame.text.tolist(), frame.label.tolist()


@pytest.fixture(scope="module")
def classifier(tickets):
    return ZeroShotClassifier(labels=sorted(set(tickets[1])))


def entropy(p):
    return -sum(value * np.log(value) for value in p if value > 0)


@given(
    arrays(np.float64, (5, 3), elements=st.floats(0, 1)).filter(
        lambda rows: (rows.sum(axis=1) > 0.01).all()
    )
)
def test_information_is_entropy_of_the_mean_less_mean_entropy(rows):
    proba = rows / rows.sum(axis=1, keepdims=True)
    slow = entropy(proba.mean(axis=0)) - np.mean([entropy(row) for row in proba])
    found = mutual_information(proba)
    assert found == pytest.approx(slow, abs=1e-12)
    assert -1e-12 <= found <= np.log(3) + 1e-12


def test_every_prompt_is_measured_on_the_same_texts(classifier, tickets):
    texts, _ = tickets
    tuning = tune_prompt(classifier, texts, prompts=PROMPTS)
    assert {each.name for each in tuning.prompts} == {"current", *PROMPTS}
    for each in tuning.prompts:
        alone = ZeroShotClassifier(labels=classifier.labels, prompt=each.prompt)
        scores = alone.label_logprobs(texts)
        assert each.information == pytest.approx(
            mutual_information(scores.proba), abs=1e-6
        )
        assert each.label_mass == pytest.approx(scores.label_mass.mean(), rel=1e-5)
    informations = [each.information for each in tuning.prompts]
    assert informations == sorted(informations, reverse=True)
    assert tuning.best is tuning.prompts[0].prompt
    assert tuning.current.prompt == PromptTemplate()
    assert (tuning.n_texts, tuning.is_labelled) == (len(texts), False)


def test_labels_decide_by_cross_validated_log_loss(classifier, tickets):
    texts, true = tickets
    tuning = tune_prompt(classifier, texts, true, prompts=PROMPTS)
    losses = [each.log_loss for each in tuning.prompts]
    assert losses == sorted(losses)
    for each in tuning.prompts:
        alone = ZeroShotClassifier(labels=classifier.labels, prompt=each.prompt)
        fitted = LabelCalibrator().fit(alone.label_logprobs(texts), true)
        after = fitted.metrics_["after"]
        assert each.log_loss == pytest.approx(after["log_loss"], abs=1e-4)
        assert each.accuracy == pytest.approx(after["accuracy"])
    best = tuning.prompts[0].name
    assert repr(tuning) == (
        f"PromptTuning(3 prompts on 24 labelled texts, best: {best!r})"
    )


def test_a_table_has_a_row_for_each_prompt_best_first(classifier, tickets):
    texts, true = tickets
    bare = tune_prompt(classifier, texts, prompts=PROMPTS)
    assert list(bare.to_frame().columns) == [
        "name",
        "prompt",
        "information",
        "label_mass",
        "n_tokens",
    ]
    frame = tune_prompt(classifier, texts, true, prompts=PROMPTS).to_frame()
    assert frame.log_loss.is_monotonic_increasing
    assert frame.n_tokens.between(5, 200).all()
    assert "<table" in bare._repr_html_()


def test_the_classifier_stays_as_it_is_and_takes_the_best(classifier, tickets):
    before = classifier.get_params()
    tuning = classify.tune_prompt(classifier, tickets[0], prompts=PROMPTS)
    assert classifier.get_params() == before
    tuned = ZeroShotClassifier(**before).set_params(prompt=tuning.best)
    assert tuned.predict(tickets[0][:2]).shape == (2,)


def test_the_same_texts_are_drawn_each_time(classifier, tickets):
    first, second = (
        tune_prompt(classifier, tickets[0], prompts=PROMPTS, n_texts=5)
        for _ in range(2)
    )
    assert first.n_texts == 5
    assert (
        first.to_frame()
        .drop(columns="prompt")
        .equals(second.to_frame().drop(columns="prompt"))
    )


def test_progress_counts_the_texts_of_all_prompts(classifier, tickets):
    counts = []
    tune_prompt(
        classifier, tickets[0], prompts=PROMPTS, n_texts=5, progress=counts.append
    )
    assert sum(counts) == 3 * 5


def test_no_prompt_warns_of_its_label_mass(classifier, tickets, caplog):
    with caplog.at_level(logging.WARNING):
        tune_prompt(classifier, tickets[0], prompts={"odd": "{text} xyzzy"}, n_texts=5)
    assert not caplog.records


def test_texts_that_cannot_be_asked_are_left_out(classifier, tickets):
    tuning = tune_prompt(
        classifier, [None, *tickets[0][:4], "  "], prompts={"terse": "{text} ->"}
    )
    assert tuning.n_texts == 4


@pytest.mark.parametrize(
    ("texts", "true", "message"),
    [
        (
            ["", None],
            None,
            (
                "None of the 2 texts can be used. Text 0: there is no text: it is "
                "empty or missing."
            ),
        ),
        ([], None, "There are no texts to compare prompts on."),
        (
            ["a", "b"],
            ["billing", "shipping"],
            (
                "Comparing prompts by labels needs at least 10 labelled texts. Got 2: "
                "label more, or compare them without labels."
            ),
        ),
    ],
)
def test_too_little_to_compare_on(classifier, texts, true, message):
    with pytest.raises(DataError) as error:
        tune_prompt(classifier, texts, true, prompts={"terse": "{text} ->"})
    assert str(error.value) == message


def test_wrong_arguments(classifier, tickets):
    with pytest.raises(ConfigError) as error:
        tune_prompt(classifier, tickets[0], n_texts=1)
    assert str(error.value) == (
        "The 'n_texts' parameter of tune_prompt must be a whole number, at least 2. "
        "Got 1 instead."
    )
    with pytest.raises(ConfigError) as error:
        tune_prompt(classifier, tickets[0], prompts={"current": "{text}"})
    assert str(error.value) == (
        "prompts has the name 'current', which stands for the classifier's own prompt: "
        "choose another."
    )
    with pytest.raises(LabelError):
        tune_prompt(ZeroShotClassifier(), tickets[0])


def test_candidates_keep_columns_system_prompt_and_examples():
    labels = LabelSet.parse(["a", "b"])
    own = PromptTemplate(
        "{title} / {body}",
        system="Be brief.",
        examples=[({"title": "t", "body": "u"}, "a")],
    )
    found = candidate_prompts(own, labels, has_chat_template=True)
    assert found["current"] is own
    for name, prompt in found.items():
        assert prompt.fields == ("title", "body"), name
        assert (prompt.system, prompt.examples) == (own.system, own.examples), name
    assert found["plain, text alone"].template == "{title}\n{body}\nCategory:"
    assert found["chat, JSON"].answer_prefix == '{"label": "'


@pytest.mark.parametrize("has_chat_template", [True, False])
def test_candidates_differ_and_suit_the_model(has_chat_template):
    labels = LabelSet.parse(["a", "b"])
    found = candidate_prompts(
        PromptTemplate(), labels, has_chat_template=has_chat_template
    )
    resolved = [
        each.resolved(labels, has_chat_template=has_chat_template)
        for each in found.values()
    ]
    assert len(set(resolved)) == len(resolved)
    assert any(each.chat for each in resolved) == has_chat_template
    # Ours is among them, under the name of the classifier's own.
    assert ("chat" if has_chat_template else "plain") not in found


def test_labels_with_descriptions_are_listed_with_them():
    labels = LabelSet.parse({"a": "first", "b": "second"})
    found = candidate_prompts(PromptTemplate(), labels, has_chat_template=False)
    assert found["plain, question"].options == "lines"


def test_each_prompt_is_compiled_once(classifier, tickets):
    compiled = []

    class Counted(Verbalizer):
        def compile(self, prompt, labels):
            compiled.append(prompt)
            return super().compile(prompt, labels)

    clf = ZeroShotClassifier(classifier.labels, verbalizer=Counted())
    tune_prompt(clf, tickets[0], prompts=PROMPTS, n_texts=2)
    assert len(compiled) == 1 + len(PROMPTS)


def test_examples_of_a_table_are_tried_with_the_best_prompts(classifier, tickets):
    table = pd.DataFrame({"text": tickets[0], "label": tickets[1]})
    own = PromptTemplate("{text}\nTopic:", examples=table, n_examples=2, example_seed=3)
    clf = ZeroShotClassifier(classifier.labels, prompt=own)
    begun, counts = [], []
    tuning = tune_rows(
        clf.scorer(),
        [{"text": text} for text in tickets[0]],
        None,
        n_texts=3,
        begins=begun.append,
        progress=counts.append,
    )
    by_name = {each.name: each.prompt for each in tuning.prompts}
    bare = [each for each in tuning.prompts if not each.prompt.chooses_examples]
    shown = {
        f"{each.name}, {choice} examples"
        for each in bare[:2]
        for choice in ("balanced", "nearest")
    }
    assert shown | {each.name for each in bare} | {"current"} == set(by_name)
    for name in shown:
        prompt = by_name[name]
        assert prompt.template == by_name[name.rsplit(", ", 1)[0]].template
        assert (prompt.examples, prompt.n_examples) == (own.examples, 2)
        assert prompt.example_seed == (3 if "balanced" in name else 0)
    assert begun == [3 * (len(bare) + 1), 3 * 4]
    assert sum(counts) == sum(begun)


def test_candidates_show_no_examples_of_a_table_unless_they_are_named_so():
    labels = LabelSet.parse(["a", "b"])
    table = pd.DataFrame({"text": ["x", "y"], "label": ["a", "b"]})
    own = PromptTemplate(examples=table, n_examples=1)
    found = candidate_prompts(own, labels, has_chat_template=True)
    assert found.pop("current") is own
    assert "chat" in found  # the default without examples
    assert not any(each.chooses_examples for each in found.values())
    with_examples = few_shot_prompts(own, {"plain": found["plain"]})
    assert list(with_examples) == [
        "plain, balanced examples",
        "plain, nearest examples",
    ]


def test_an_ensemble_has_at_least_one_prompt():
    current = TunedPrompt("current", PromptTemplate(), 0.1, 0.9, 20.0)
    tuning = PromptTuning((current,), n_texts=2, is_labelled=False)
    assert tuning.ensemble(1) == current.prompt
    with pytest.raises(ConfigError) as error:
        tuning.ensemble(0)
    assert str(error.value) == (
        "The 'n_prompts' parameter of PromptTuning.ensemble must be a whole "
        "number, at least 1. Got 0 instead."
    )


def test_fit_chooses_the_prompt_that_tuning_finds_best(classifier, tickets):
    texts, engine = tickets[0][:4], classifier.load_engine()
    clf = ZeroShotClassifier(classifier.labels, engine=engine, prompt="auto")
    best = tune_prompt(classifier, texts).best
    assert clf.fit(texts).prompt_ == best
    fixed = ZeroShotClassifier(classifier.labels, engine=engine, prompt=best)
    np.testing.assert_allclose(
        clf.predict_proba(texts[:2]), fixed.predict_proba(texts[:2]), atol=1e-6
    )
    check_is_fitted(clf)


def test_a_prompt_that_is_not_chosen_yet_is_refused(classifier):
    for prompt in ("auto", PromptTemplate("auto", system="Sort mail.")):
        clf = ZeroShotClassifier(classifier.labels, prompt=prompt)
        with pytest.raises(NotFittedError):
            check_is_fitted(clf)
        assert clf.__sklearn_tags__().requires_fit
        with pytest.raises(PromptError) as error:
            clf.predict(["Where is it?"])
        assert str(error.value) == (
            "No prompt has been chosen yet for template='auto': call fit, run classify "
            "predict on a file, or choose one with classify tune."
        )
