"""Some labels are listed, chosen by a prompt that lists none: against single passes."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import AutoModelForCausalLM, AutoTokenizer

from classify import LabelCalibrator, PromptTemplate, ZeroShotClassifier
from classify.calibration import CalibrationWarning
from classify.demo import model_folder
from classify.errors import AnswerError, ConfigError, PromptError
from classify.jobs import Classification, open_table, run_job
from classify.scoring import TextScore
from classify.scoring.bounds import LabelBounds
from classify.scoring.masses import shortlisted_mass
from classify.trie import LabelMass
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import Countdown, csv_of, job_of, run
from tests.toy_model import hashed_engine

NAMES = ("shipping", "billing", "technical problem", "refund", "account access")
TEXTS = ["My invoice is wrong and nobody answers.", "Where is my parcel?", "It broke"]
SIZE = 2


def refused(message, kind=PromptError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def demo():
    folder = model_folder()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return AutoTokenizer.from_pretrained(folder), model


@pytest.fixture(scope="module")
def engine():
    return ZeroShotClassifier(NAMES, engine="transformers").load_engine()


def classifier(engine, tolerance=0.0, labels=NAMES, **prompt):
    prompt = PromptTemplate(**{"shortlist": SIZE, **prompt})
    return ZeroShotClassifier(labels, engine=engine, prompt=prompt, tolerance=tolerance)


def prompt_text(tokenizer, text, listed, *, chat):
    """Write the prompt out as people would; with no list, if there is none."""
    if not chat:
        categories = f"Categories: {', '.join(listed)}\n\n" if listed else ""
        return f"{tokenizer.bos_token}{categories}Text: {text}\nCategory:"
    asked = "Which category describes the text best?"
    if listed:
        asked = "Which of these categories describes the text best: "
        asked += f"{', '.join(listed)}?"
    content = f"{asked}\n\nText: {text}\n\nAnswer with the category only."
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
    )


@torch.inference_mode()
def slow(demo, text, names, listed, *, chat):
    """p(label | prompt) of some labels: a pass over each joint text, no cache."""
    tokenizer, model = demo
    before = prompt_text(tokenizer, text, listed, chat=chat)
    start = len(tokenizer(before, add_special_tokens=False)["input_ids"])
    found = []
    for name in names:
        whole = before + ("" if chat else " ") + name
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([ids]), use_cache=False).logits[0].double()
        logprobs = torch.log_softmax(logits, dim=-1)
        total = sum(float(logprobs[j - 1, ids[j]]) for j in range(start, len(ids)))
        found.append(np.exp(total))
    return np.array(found)


@pytest.mark.parametrize("chat", [True, False])
def test_scores_are_those_of_two_prompts(demo, engine, chat):
    found = classifier(engine, chat=chat).label_logprobs(TEXTS, return_steps=True)
    bounded = classifier(engine, tolerance=0.05, chat=chat).label_logprobs(TEXTS)
    proba = found.bounds.log_proba()
    for at, text in enumerate(TEXTS):
        first = slow(demo, text, NAMES, (), chat=chat)
        chosen = sorted(np.argsort(-first)[:SIZE])  # as declared
        listed = [NAMES[each] for each in chosen]
        second = dict(
            zip(listed, slow(demo, text, listed, listed, chat=chat), strict=True)
        )
        own = dict(zip(NAMES, first / first.sum(), strict=True))
        left_out = sum(own[name] for name in NAMES if name not in second)
        mass = sum(second.values())
        for column, name in enumerate(found.classes):
            if name in second:
                expected = (1 - left_out) * second[name]
                lower, upper = expected, second[name]
            else:
                expected = mass * own[name]
                lower, upper = 0.0, mass * left_out
            three = found.values, found.lower, found.upper
            values = [np.exp(each[at, column]) for each in three]
            expected = [expected, lower, upper]
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-9)
            least, most = np.exp([each[at, column] for each in proba])
            # What the first prompt says alone, and what the second says alone.
            for share in (0.0, left_out):
                truth = share / left_out * own[name]
                if name in second:
                    truth = (1 - share) * second[name] / mass
                assert least - 1e-6 <= truth <= most + 1e-6
        assert found.unresolved[at] == pytest.approx(mass * left_out, rel=1e-4)
        assert found.label_mass[at] == pytest.approx(mass, rel=1e-4)
    assert all(
        len(each) == n for each, n in zip(found.steps, found.n_reads, strict=True)
    )
    # What is left unread widens the bounds, if the same labels are listed.
    same = np.isfinite(bounded.lower) == np.isfinite(found.lower)
    rows = same.all(axis=1)
    assert rows.any()
    assert (bounded.lower[rows] <= found.values[rows] + 1e-4).all()
    assert (found.values[rows] <= bounded.upper[rows] + 1e-4).all()


def test_fewer_labels_are_all_listed(engine):
    plain = ZeroShotClassifier(NAMES, engine=engine, tolerance=0.0)
    all_listed = classifier(engine, shortlist=len(NAMES)).label_logprobs(TEXTS)
    expected = plain.label_logprobs(TEXTS)
    np.testing.assert_allclose(all_listed.values, expected.values, atol=1e-5)
    assert (all_listed.unresolved == 0.0).all()
    # Candidates of a row are shortlisted if there are more.
    candidates = [NAMES[:2], NAMES[:3], NAMES]
    found = classifier(engine).label_logprobs(TEXTS, labels=candidates)
    expected = plain.label_logprobs(TEXTS, labels=candidates)
    np.testing.assert_allclose(found.values[0], expected.values[0], atol=1e-5)
    assert np.isfinite(found.lower).sum(axis=1).tolist() == [SIZE] * 3
    assert np.isfinite(found.values).sum(axis=1).tolist() == [2, 3, 5]


@pytest.mark.parametrize(
    "settings", [{"answer": "code"}, {"n_orders": 2, "answer": "both"}]
)
def test_the_second_prompt_may_have_codes_and_orders(engine, settings):
    found = classifier(engine, **settings).label_logprobs(TEXTS)
    first = classifier(engine, shortlist=None, options="none").label_logprobs(TEXTS)
    order = np.argsort(-first.values, axis=1)
    candidates = [first.classes[each].tolist() for each in order[:, :SIZE]]
    second = classifier(engine, shortlist=None, **settings).label_logprobs(
        TEXTS, labels=candidates
    )
    kept = np.take_along_axis(first.proba, order[:, :SIZE], axis=1).sum(axis=1)
    expected = np.where(
        np.isfinite(second.values),
        np.log(kept)[:, None] + second.values,
        first.log_proba + second.log_label_mass[:, None],
    )
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.agreement.tolist() == second.agreement.tolist()
    assert found.n_reads.tolist() == (first.n_reads + second.n_reads).tolist()


def test_an_ensemble_may_have_a_shortlist(engine):
    own = {"template": "{title}: {text}\nOne of {labels}:"}
    other = PromptTemplate("{title}\nTopic:", chat=False)
    frame = pd.DataFrame({"title": ["Late", "Wrong", "Broken"], "text": TEXTS})
    found = classifier(engine, **own, ensemble=(other,)).predict_proba(frame)
    alone = ZeroShotClassifier(NAMES, engine=engine, prompt=other, tolerance=0.0)
    mean = classifier(engine, **own).predict_proba(frame) + alone.predict_proba(frame)
    np.testing.assert_allclose(found, mean / 2, atol=1e-6)


def test_the_first_prompt_shows_the_same_columns(engine):
    clf = classifier(
        engine, template="{title}: {body}\nOne of {labels}", answer_prefix="Topic:"
    )
    frame = pd.DataFrame({"title": ["Late"], "body": ["Where is my parcel?"]})
    found = clf.label_logprobs(frame)
    shown = "Which category describes the text best?\n\nText: {title}\n{body}\n\n"
    first = ZeroShotClassifier(
        NAMES,
        engine=engine,
        prompt=PromptTemplate(
            shown + "Answer with the category only.",
            options="none",
            answer_prefix="Topic:",
        ),
        tolerance=0.0,
    ).label_logprobs(frame)
    best = np.argsort(-first.values[0])[:SIZE]
    assert np.flatnonzero(np.isfinite(found.lower[0])).tolist() == sorted(best)


_share = st.floats(0.0, 1.0)
_weights = arrays(np.float64, 3, elements=st.floats(0.01, 1.0))


@given(_weights, _weights, _share, _weights)
def test_bounds_hold_for_any_share_of_those_left_out(own, second, share, division):
    own, second = own / own.sum(), second[:2] / 4
    p1, p2 = np.log([*own, 0.5 * own[0]]), np.log(second)
    found = shortlisted_mass(
        LabelMass(p1, p1, p1, 0.0), LabelMass(p2, p2, p2, 0.0), [0, 2]
    )
    first = np.exp(p1) / np.exp(p1).sum()
    given_up = share * (first[1] + first[3])
    truth = np.empty(4)
    truth[[0, 2]] = (1 - given_up) * second / second.sum()
    truth[[1, 3]] = given_up * division[:2] / division[:2].sum()
    bounds = LabelBounds.of_mass(found).log_proba()
    assert (np.exp(bounds.lower[0]) <= truth + 1e-9).all()
    assert (truth <= np.exp(bounds.upper[0]) + 1e-9).all()
    assert np.exp(found.estimate).sum() == pytest.approx(second.sum())
    assert found.most == pytest.approx(second.sum())


_ends = arrays(np.float64, (2, 4), elements=st.floats(0.01, 0.2))
_where = arrays(np.float64, (2, 4), elements=_share)


@given(_ends, _ends, _where, _share)
def test_bounds_hold_where_the_prompts_are_known_within_bounds(
    first, second, where, share
):
    def known(ends):
        lower, upper = np.sort(ends, axis=0)
        middle = np.log((lower + upper) / 2)
        gap = float((upper - lower).sum())
        return LabelMass(middle, np.log(lower), np.log(upper), gap)

    def true(ends, at):
        lower, upper = np.sort(ends, axis=0)
        return lower + at * (upper - lower)

    listed, others = [0, 2], [1, 3]
    found = shortlisted_mass(known(first), known(second[:, listed]), listed)
    p1, p2 = true(first, where[0]), true(second, where[1])[listed]
    left_out = share * p1[others].sum() / p1.sum()
    truth = np.empty(4)
    truth[listed] = (1 - left_out) * p2
    truth[others] = left_out * p2.sum() * p1[others] / p1[others].sum()
    assert (np.exp(found.lower) <= truth * (1 + 1e-9)).all()
    assert (truth <= np.exp(found.upper) * (1 + 1e-9)).all()
    assert truth.sum() <= found.most * (1 + 1e-9)
    bounds = LabelBounds.of_mass(found).log_proba()
    proba = truth / truth.sum()
    assert (np.exp(bounds.lower[0]) <= proba + 1e-9).all()
    assert (proba <= np.exp(bounds.upper[0]) + 1e-9).all()


def test_a_job_says_what_is_not_certain(engine, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    pd.DataFrame({"text": [*TEXTS, TEXTS[0]]}).to_csv(source, index=False)
    clf = classifier(engine)
    run_job(Classification(classifier=clf), open_table([source]), out)
    table = pd.read_csv(out)
    frame = clf.classify_frame(pd.DataFrame({"text": [*TEXTS, TEXTS[0]]}))
    assert table.columns.tolist() == [*frame.columns, "error"]
    for name in ("probability", "lower", "upper", "unresolved"):
        np.testing.assert_allclose(table[name], frame[name], rtol=1e-6)
    assert (
        clf.scorer().fingerprint()
        != classifier(engine, shortlist=3).scorer().fingerprint()
    )


def test_a_job_that_is_stopped_goes_on(tmp_path):
    source = csv_of(tmp_path / "in.csv", [[text] for text in TEXTS])

    def job():
        engine = hashed_engine(len(byte_level()), window=1)
        template = "One of {labels}: {text}\nTopic:"
        clf = classifier(engine, template=template, chat=False)
        return job_of(clf.set_params(tokenizer=byte_level()))

    whole = tmp_path / "whole.csv"
    run(source, whole, job())
    n_resumed = set()
    for n_times in range(1, 15):
        out = tmp_path / f"{n_times}.csv"
        stopping = Countdown(n_times)
        if not run(source, out, job(), stopping=stopping, part_rows=1).is_complete:
            n_resumed.add(run(source, out, job()).n_resumed)
        assert out.read_bytes() == whole.read_bytes()
    assert {1, 2} <= n_resumed


def test_scores_are_calibrated(engine):
    clf = classifier(engine)
    scores = clf.label_logprobs(TEXTS)
    with pytest.warns(CalibrationWarning, match="for 1 of the 3 texts, more than 1%"):
        fitted = LabelCalibrator("prior_matching").fit(scores)
    lower, upper = fitted.bounds(scores).log_proba()
    proba = fitted.predict_log_proba(scores)
    assert (lower <= proba + 1e-9).all()
    assert (proba <= upper + 1e-9).all()
    with refused(
        "shortlist=2 chooses among the probabilities of all labels, and cannot be "
        "combined with method='content_free', whose texts would get other lists than "
        "yours: use a method that takes your texts, such as method='prior_matching'.",
        ConfigError,
    ):
        clf.set_params(calibrator="content_free").fit(TEXTS)


def test_a_prompt_of_an_ensemble_may_have_a_shortlist(engine):
    own, member = PromptTemplate("{text}\nTopic:", chat=False), PromptTemplate()
    member = replace(member, shortlist=SIZE)
    prompt = replace(own, ensemble=(member,))
    clf = ZeroShotClassifier(NAMES, engine=engine, prompt=prompt, tolerance=0.0)
    found = clf.label_logprobs(TEXTS)
    assert clf.scorer().gives_bounds
    assert (found.unresolved > 0.0).all()
    alone = [
        ZeroShotClassifier(NAMES, engine=engine, prompt=each, tolerance=0.0)
        for each in (own, member)
    ]
    mean = sum(each.predict_proba(TEXTS) for each in alone) / 2
    np.testing.assert_allclose(found.proba, mean, atol=1e-6)
    with refused(
        "shortlist=2 may leave out the label of escape='none of these', which is "
        "rarely likely when no other is listed: remove one of the two."
    ):
        clf.set_params(escape="none of these").predict(TEXTS)
    with refused(
        "shortlist=2 chooses among the probabilities of all labels, and cannot be "
        "combined with strategy='generate', which reads one of them: use "
        "strategy='exact'.",
        ConfigError,
    ):
        clf.set_params(escape=None, strategy="generate").predict(TEXTS)


def test_both_prompts_are_explained(engine):
    clf = classifier(engine)
    found = clf.label_logprobs(TEXTS[:1], return_steps=True)
    explanation = clf.explain(TEXTS[0])
    titles = [each.title for each in explanation.prompts]
    assert titles == ["Without a list", "With the shortlist"]
    n_labels = [len(each.score.labels) for each in explanation.prompts]
    assert n_labels == [len(NAMES), SIZE]
    assert explanation.n_reads == found.n_reads[0]
    assert explanation.unresolved == pytest.approx(found.unresolved[0])
    values = dict(zip(found.classes, found.values[0], strict=True))
    frame = explanation.label_frame().set_index("label")
    assert frame["logprob"].to_dict() == pytest.approx(values)
    assert set(explanation.to_frame()["prompt"]) == set(titles)
    several = classifier(engine, n_orders=2).explain(TEXTS[0])
    assert [each.title for each in several.prompts] == [
        "Without a list",
        "With the shortlist, prompt 1 of 2",
        "With the shortlist, prompt 2 of 2",
    ]
    # What was read can be sent to other processes: it holds no prompt to come.
    [score] = found.text_scores
    assert not any(each.prompt.shortlist for each in (score, *score.parts))
    n_tokens = [len(each.prompt.token_ids) for each in score.parts]
    assert score.prompt.n_tokens == sum(n_tokens)


def test_no_label_has_any_probability():
    nothing = np.full(2, -np.inf)
    score = TextScore(None, nothing, LabelMass(nothing, nothing, nothing, 0.0), 1, 1)
    with refused(
        "The prompt without a list gives none of the labels any probability, so that "
        "no shortlist can be chosen.",
        AnswerError,
    ):
        score.most_likely(1)


LISTS = "shortlist=2 needs a list of the options, but "


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"options": "none"},
            f"{LISTS}options='none' lists none: remove one of the two.",
        ),
        (
            {"template": "{text}\nTopic:"},
            (
                f"{LISTS}the template '{{text}}\\nTopic:' has none: put {{labels}} "
                "where it belongs."
            ),
        ),
        (
            {"asks": "whether"},
            (
                "shortlist=2 chooses labels to list, and yes/no questions are about "
                "one label each: leave shortlist out."
            ),
        ),
        (
            {"examples": [("Late", "shipping")]},
            (
                "shortlist=2 cannot be combined with examples, whose labels may be "
                "among those left out: remove one of the two."
            ),
        ),
        (
            {"system": "One of {labels}."},
            (
                "shortlist=2 asks first without a list, but the system prompt has "
                "one: put {labels} into the template instead."
            ),
        ),
        (
            {"n_orders": 3},
            ("n_orders=3, but 2 labels have only 2 orders: use that number or fewer."),
        ),
    ],
)
def test_prompts_that_cannot_have_a_shortlist(settings, message):
    with refused(message):
        PromptTemplate(shortlist=2, **settings)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (
            {"strategy": "generate"},
            ConfigError,
            (
                "shortlist=2 chooses among the probabilities of all labels, and cannot "
                "be combined with strategy='generate', which reads one of them: use "
                "strategy='exact'."
            ),
        ),
        (
            {"strategy": "reason"},
            ConfigError,
            (
                "shortlist=2 cannot be combined with strategy='reason', which uses one "
                "prompt and reads the label's words: remove one of the two."
            ),
        ),
        (
            {"escape": "none of these"},
            PromptError,
            (
                "shortlist=2 may leave out the label of escape='none of these', which "
                "is rarely likely when no other is listed: remove one of the two."
            ),
        ),
        (
            {"kind": "tree", "tree_scoring": "levels", "labels": ["a/b", "a/c", "d"]},
            PromptError,
            (
                "tree_scoring='levels' needs one prompt for each level: leave out the "
                "settings that ask several times, such as n_orders."
            ),
        ),
    ],
)
def test_classifiers_that_cannot_have_a_shortlist(settings, kind, message):
    clf = ZeroShotClassifier(NAMES, prompt=PromptTemplate(shortlist=2))
    with refused(message, kind):
        clf.set_params(**settings).predict(TEXTS)
