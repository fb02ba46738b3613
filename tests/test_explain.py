"""The explanation of a text: its figures are the result's, however they are shown."""

import json
import re

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from classify import (
    Label,
    LabelCalibrator,
    PromptTemplate,
    Verbalizer,
    ZeroShotClassifier,
    ZeroShotMultiLabelClassifier,
)
from classify.errors import InputError
from classify.scoring import exact, generate
from classify.scoring.paths import path_lines
from tests.html_pages import Page
from tests.test_scoring import run, scorable
from tests.test_trie import VOCAB, word_paths
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine

mpl.use("agg")

TEXT = "Where is my parcel?"
NAMES = ["shipping", "ship damage", "billing", "<b>bold</b>"]
TOPIC = PromptTemplate("{text}\nTopic:", chat=False)


def make(kind=ZeroShotClassifier, labels=NAMES, n_listed=None, **options):
    engine = hashed_engine(len(byte_level()), n_listed=n_listed, sharpness=4.0)
    options = {"prompt": TOPIC, **options}
    return kind(labels, engine=engine, tokenizer=byte_level(), **options)


# ----------------------------------------------------------------------- lines


def above(lines, at):
    """Return the line that a line hangs on; None for the prompt."""
    for line in reversed(lines[:at]):
        if line.depth == lines[at].depth - 1:
            return line
    return None


@given(
    word_paths(),
    st.sampled_from([0.0, 1e-3, 0.3, "generate"]),
    st.sampled_from([None, 2, 4]),
    st.sampled_from([1, 3, 50]),
)
def test_lines_add_up_to_the_label_mass(paths, tolerance, n_listed, max_paths):
    prompt = scorable(paths, (3,))
    if tolerance == "generate":
        score = run(generate(prompt))
    else:
        engine = hashed_engine(VOCAB, n_listed=n_listed)
        score = run(exact(prompt, tolerance=tolerance), engine)
    lines = path_lines(score, max_paths=max_paths)
    ends = [line for line in lines if line.n_paths]
    assert sum(line.n_paths for line in ends) == len(paths)
    assert sum(not line.is_folded for line in ends) <= max_paths
    # The estimate of a label is cut at its upper bound, that of a path is not.
    total, least = np.exp(score.mass.estimate).sum(), np.exp(score.mass.lower).sum()
    shown = sum(line.mass for line in ends)
    if n_listed is None:
        assert shown == pytest.approx(total)
    assert least - 1e-12 <= shown
    assert total <= shown + 1e-12
    for at, line in enumerate(lines):
        assert line.mass <= line.max_mass + 1e-12
        assert line.depth * 3 + 3 == len(line.guide)
        if not line.is_folded:
            start = above(lines, at)
            before = 1.0 if start is None else start.mass
            assert line.mass == pytest.approx(before * np.exp(line.logprob))


# ---------------------------------------------------------------------- figures


def check(clf, explanation, text=TEXT):
    """The figures are those of the result, and the paths' mass is that of labels."""
    scores = clf.label_logprobs([text])
    proba = dict(zip(clf.classes_, clf.predict_proba([text])[0], strict=True))
    frame = explanation.label_frame().set_index("label")
    assert frame["probability"].to_dict() == pytest.approx(proba, abs=1e-12)
    assert frame["probability"].is_monotonic_decreasing
    values = dict(zip(scores.classes, scores.values[0], strict=True))
    assert frame["logprob"].to_dict() == pytest.approx(values, abs=1e-12)
    share = dict(zip(scores.classes, scores.proba[0], strict=True))
    assert frame["share"].to_dict() == pytest.approx(share, abs=1e-12)
    assert explanation.label_mass == pytest.approx(scores.label_mass[0])
    assert explanation.unresolved == scores.unresolved[0]
    assert explanation.n_reads == scores.n_reads[0]
    return frame, explanation.to_frame()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tolerance": 0.0},
        {"tolerance": 0.5},
        {"verbalizer": Verbalizer(case_variants=True)},
        {"labels": [Label("shipping", words=("shipping", "parcel")), Label("billing")]},
        {"strategy": "generate"},
    ],
)
def test_mass_of_the_nodes_is_that_of_the_labels(options):
    clf = make(**options)
    frame, nodes = check(clf, clf.explain(TEXT))
    summed = nodes.dropna(subset="label").groupby("label")["mass"].sum()
    mass = np.exp(frame["logprob"])
    assert summed.to_dict() == pytest.approx(mass.to_dict(), abs=1e-12)
    # Down every way: the product of what was read.
    by_node = nodes.set_index("node")
    for node in nodes.dropna(subset=["logprob"]).itertuples():
        before = by_node["mass"].get(node.parent, 1.0)
        assert node.mass == pytest.approx(before * np.exp(node.logprob))


def test_several_prompts_are_averaged():
    prompt = PromptTemplate("{labels}: {text}\nTopic:", chat=False, n_orders=3)
    clf = make(labels=["shipping", "ship damage", "billing"], prompt=prompt)
    explanation = clf.explain(TEXT)
    frame, nodes = check(clf, explanation)
    titles = [each.title for each in explanation.prompts]
    assert titles == ["Prompt 1 of 3", "Prompt 2 of 3", "Prompt 3 of 3"]
    summed = nodes.dropna(subset="label").groupby(["prompt", "label"])["mass"].sum()
    mean = summed.groupby("label").mean()
    mass = np.exp(frame["logprob"]).to_dict()
    assert mean.to_dict() == pytest.approx(mass, abs=1e-12)
    assert str(explanation).count("of 3\n") == 3


def test_codes_stand_for_labels():
    prompt = PromptTemplate("{labels}: {text}\nAnswer:", chat=False, answer="code")
    clf = make(prompt=prompt)
    check(clf, clf.explain(TEXT))
    assert re.search(r"A  → shipping$", str(clf.explain(TEXT)), re.MULTILINE)


def test_levels_of_a_tree():
    clf = make(
        labels=["pet/dog", "pet/cat", "car"],
        kind=ZeroShotClassifier,
        tree_scoring="levels",
    ).set_params(kind="tree")
    explanation = clf.explain(TEXT)
    check(clf, explanation)
    assert [each.title for each in explanation.prompts] == ["Top level", "Below pet"]


def test_candidates_of_one_text():
    clf = make()
    found = clf.explain(TEXT, labels=["billing", "shipping"])
    proba = clf.predict_proba([TEXT], labels=[["billing", "shipping"]])
    assert [each.label for each in found.labels] == ["shipping", "billing"]
    assert found.labels[0].probability == proba.max()


def test_a_calibration_changes_probabilities_and_not_what_was_read():
    texts = [f"{TEXT} {at}" for at in range(12)]
    raw = make()
    scores = raw.label_logprobs(texts)
    clf = make(calibrator=LabelCalibrator("prior_matching").fit(scores))
    explanation = clf.explain(TEXT)
    frame, _ = check(clf, explanation)
    assert not np.allclose(frame["share"], frame["probability"])
    assert "share  calibrated" in str(explanation)
    assert "calibrated" not in str(raw.explain(TEXT))


def test_a_list_of_likeliest_tokens_gives_bounds():
    clf = make(n_listed=3, tolerance=0.0)
    explanation = clf.explain(TEXT)
    found = explanation.label_frame().set_index("label")
    scores = clf.label_logprobs([TEXT])
    assert dict(found["lower"]) == dict(
        zip(scores.classes, scores.lower[0], strict=True)
    )
    assert dict(found["upper"]) == dict(
        zip(scores.classes, scores.upper[0], strict=True)
    )
    assert (found["least"] <= found["probability"]).all()
    assert (found["probability"] <= found["most"]).all()
    assert "≤ -" in str(explanation)
    assert "bounds" in str(explanation)


def test_each_label_has_its_answers():
    clf = make(ZeroShotMultiLabelClassifier, ["shipping", "billing"])
    clf.set_params(prompt=PromptTemplate("{text}: {label}?", chat=False))
    explanation = clf.explain(TEXT)
    proba = dict(zip(clf.classes_, clf.predict_proba([TEXT])[0], strict=True))
    shown = {each.label: each.probability for each in explanation.labels}
    assert shown == pytest.approx(proba, abs=1e-12)
    assert [each.title for each in explanation.prompts] == list(shown)
    nodes = explanation.to_frame().dropna(subset="label")
    mass = nodes.groupby(["prompt", "label"])["mass"].sum()
    for label, value in shown.items():
        yes, no = mass[label, "yes"], mass[label, "no"]
        assert yes / (yes + no) == pytest.approx(value)


def test_what_is_no_text_is_refused():
    message = (
        "The candidate labels of each text must be a list of names, such as "
        "['billing', 'shipping']. Got the string 'billing' instead."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        make().explain("a", labels="billing")
    with pytest.raises(
        InputError,
        match=r"^explain takes one text: a string, or a mapping with the columns that "
        r"the prompt needs\. Got \['a'\] of type list instead\.$",
    ):
        make().explain(["a"])
    with pytest.raises(
        InputError,
        match=r"^The text cannot be explained: there is no text: it is empty or "
        r"missing\.$",
    ):
        make().explain(" ")


# --------------------------------------------------------------------- pictures


GOLDEN = """\
    log p    mass           prompt: … ␣my ␣parcel ? ⏎ Topic :
  -12.240 4.8e-06  █████▉  ├─ ␣shipping  → shipping
  -15.861 1.3e-07  ▏       ├─ ␣billing  → billing
  -27.057 1.8e-12          ├─ ␣shi p
          1.8e-12          │  └─ 1 path, not read: ship damage
 -162.875 1.8e-71          └─ ␣ < b > b o l d < / b >  → <b>bold</b>
13 of 20 nodes read in 2 rounds; label mass 5.0e-06, unresolved 1.8e-12

     mass probability
  4.8e-06      0.9740 █████▉ shipping
  1.3e-07      0.0260 ▏      billing
  1.8e-12     3.6e-07        ship damage
  1.8e-71     3.7e-66        <b>bold</b>
"""


def test_the_picture_of_a_fixed_model():
    assert str(make().explain(TEXT)) == GOLDEN.rstrip("\n")


def test_paths_with_next_to_no_mass_are_one_line():
    labels = ["parcel", *(f"product {at}" for at in range(60))]
    picture = str(make(labels=labels, tolerance=0.0).explain(TEXT))
    lines = picture.splitlines()
    assert len(lines) < 60
    assert re.search(r"^ {10}[ \d.e-]{7} .*… \d+ more paths$", picture, re.MULTILINE)
    assert re.fullmatch(r" +[\d.e-]+ +… 49 more labels", lines[-1])


def test_html_is_escaped_and_has_the_same_figures():
    explanation = make().explain(TEXT)
    page = Page(explanation._repr_html_())
    assert "b" not in page.tags()
    assert "<b>bold</b>" in page.text
    reads, labels = page.tables
    assert reads[0][:2] == ["log p", "mass"]
    assert labels[0] == ["mass", "probability", "label"]
    assert [row[2] for row in labels[1:]] == [each.label for each in explanation.labels]
    for row, figures in zip(labels[1:], explanation.labels, strict=True):
        assert f"{row[1]:>7}" in str(explanation)
        if figures.probability > 1e-4:
            assert float(row[1]) == pytest.approx(figures.probability, abs=5e-5)


def test_the_plot_shows_every_line_and_says_so():
    explanation = make().explain(TEXT)
    display = explanation.plot()
    lines = explanation.prompts[0].lines(12)
    drawn = [text.get_text() for text in display.ax_.texts]
    assert len(drawn) == 1 + len(lines)
    assert len(display.bars_ax_.patches) == sum(line.n_paths > 0 for line in lines)
    for patch, line in zip(
        display.bars_ax_.patches,
        (line for line in lines if line.n_paths),
        strict=True,
    ):
        assert patch.get_width() == line.mass
    assert f"label mass {explanation.label_mass:.4f}" in display.alternative_text
    display.figure_.draw_without_rendering()
    plt.close("all")


def test_what_json_holds():
    explanation = make().explain(TEXT)
    found = json.loads(json.dumps(explanation.to_dict(), allow_nan=False))
    [prompt] = found["prompts"]
    assert prompt["n_reads"] == explanation.n_reads
    assert len(prompt["nodes"]) == len(explanation.to_frame())
    assert [each["label"] for each in found["labels"]] == [
        each.label for each in explanation.labels
    ]


def test_nothing_is_kept_where_nothing_is_explained():
    assert make().label_logprobs([TEXT]).text_scores is None


def test_an_engine_is_asked_once():
    clf = make()
    clf.explain(TEXT)
    asked = len(clf.engine.requests)
    other = make()
    other.label_logprobs([TEXT])
    assert asked == len(other.engine.requests)
