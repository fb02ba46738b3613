import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from classify.decision import SelectiveClassifier
from classify.report import Evaluation
from classify.report.page import notebook_html, page_html
from tests.html_pages import Page
from tests.posteriors import posteriors, scores_of

HOSTILE = [
    "<script>alert(1)</script>",
    "\" onmouseover='alert(1)' x=\"",
    "</td></table></main>",
    "مرحبا أين طردي؟",
    "🦄 <img src=https://example.com/x>",
    "&lt;b&gt;",
    "x" * 3000,
    "two\nlines\tand\x00a control",
]
# What a page may load something with, or run.
ACTIVE = {"a", "base", "embed", "iframe", "img", "link", "object", "script"}


def evaluation_of(names, n_texts=60, *, texts=None, seed=0, **options):
    drawn = posteriors(n_texts, len(names), seed=seed)
    texts = texts or [f"text {at}" for at in range(n_texts)]
    scores = scores_of(drawn.log_proba - 0.2, names)
    return Evaluation.of(texts, scores.classes[drawn.codes], scores, **options)


@pytest.fixture(scope="module")
def plain():
    drawn = posteriors(60, 3)
    return evaluation_of(
        ["billing", "refund", "shipping"], calibrated=drawn.log_proba, title="Tickets"
    )


@pytest.fixture(scope="module")
def page(plain):
    return Page(page_html(plain))


@pytest.fixture(scope="module")
def hostile():
    names = sorted(HOSTILE)
    rng = np.random.default_rng(0)
    log_proba = np.log(rng.dirichlet(np.ones(len(names)), size=80))
    texts = [HOSTILE[at % len(HOSTILE)] for at in range(80)]
    evaluation = Evaluation.of(
        texts,
        names[:1] * 80,
        scores_of(log_proba, names),
        title=HOSTILE[0],
        facts=dict(zip(HOSTILE, reversed(HOSTILE), strict=True)),
    )
    return Page(page_html(evaluation))


def test_the_page_needs_nothing_else_and_runs_nothing(page, hostile):
    for each in (page, hostile):
        assert each.tags() & ACTIVE == set()
        for element in each.elements:
            for name, value in element.attributes.items():
                assert not name.startswith("on")
                assert name != "src"
                if name.endswith("href"):
                    assert value.startswith("#")
        assert "http" not in each.styles
        assert not re.search(r"@import|@font-face|url\((?!#)", each.styles)
        (policy,) = [e for e in each.elements if "http-equiv" in e.attributes]
        assert policy.attributes["content"] == (
            "default-src 'none'; style-src 'unsafe-inline'"
        )


def test_the_source_of_a_plain_page_names_no_address(plain):
    assert "://" not in page_html(plain)


def test_texts_and_names_are_shown_as_they_are(hostile):
    for text in HOSTILE[:6]:
        assert text in hostile.text
    assert "two\nlines\tand␀a control" in hostile.text
    assert "x" * 400 + " …" in hostile.text
    names = {row[0] for row in hostile.tables[1]}
    assert set(HOSTILE[:6]) <= names


def test_ids_are_unique_and_those_referred_to_exist(page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    references = {value[1:] for value in page.attributes("xlink:href")}
    for value in page.attributes("clip-path"):
        references.add(re.fullmatch(r"url\(#(.+)\)", value)[1])
    assert references
    assert references == set(ids)


def test_letters_of_pictures_are_as_large_as_those_of_tables(page):
    sizes = [
        re.search(r"font(?:-size)?: ([\d.]+)px", element.attributes["style"])[1]
        for element in page.elements
        if element.tag == "text"
    ]
    assert len(sizes) > 20
    assert set(sizes) == {"15"}
    assert (
        "table { border: 0; border-collapse: collapse; color: inherit; font-size: 15px"
        in (page.styles)
    )
    pictures = [e.attributes for e in page.elements if e.tag == "svg"]
    assert [svg["width"] for svg in pictures] == ["340"] * 3
    assert [svg["viewbox"] for svg in pictures] == ["0 0 340 380"] * 3


def test_metrics_are_listed_before_and_after(plain, page):
    header, *rows = page.tables[0]
    assert header == ["", "before calibration", "after calibration"]
    assert [row[0] for row in rows] == [
        "Log loss",
        "Brier score",
        "Accuracy",
        "Macro-F1",
        "ECE",
    ]
    for row, before, after in zip(
        rows, plain.before.quality[:5], plain.after.quality[:5], strict=True
    ):
        for cell, measure in ((row[1], before), (row[2], after)):
            value, low, high = map(float, re.findall(r"[\d.]+", cell))
            assert (value, low, high) == pytest.approx(measure[:3], abs=5e-4)


def test_every_label_has_its_row(plain, page):
    header, *rows = page.tables[1]
    assert header[0] == "label"
    for row, figures in zip(rows, plain.by_class, strict=True):
        assert row[:2] == [figures.label, str(figures.n_texts)]
        assert float(row[2]) == pytest.approx(figures.precision, abs=5e-4)
        share = float(row[7].removesuffix("\N{NO-BREAK SPACE}%"))
        assert share == pytest.approx(100 * figures.mean_proba, abs=0.05)


def test_the_confusion_matrix_shows_counts_and_shares(plain, page):
    header, *rows = page.tables[2]
    assert header[1:] == list(plain.classes)
    for row, counts in zip(rows, plain.confusion.tolist(), strict=True):
        for cell, count in zip(row[1:], counts, strict=True):
            if not count:
                assert cell == ""
                continue
            n_texts, share = re.findall(r"\d+", cell)
            assert int(n_texts) == count
            assert float(share) == pytest.approx(100 * count / sum(counts), abs=0.51)
    shades = [
        float(re.search(r"--share:([\d.]+)%", style)[1])
        for style in page.attributes("style")
        if "--share" in style
    ]
    expected = plain.confusion / plain.confusion.sum(axis=1, keepdims=True)
    assert shades == pytest.approx(45 * expected[expected > 0], abs=0.06)


def test_mistakes_are_listed_with_their_texts(plain, page):
    header, *rows = page.tables[3]
    assert header[:3] == ["row", "text", "true label"]
    assert [row[1] for row in rows] == [mistake.text for mistake in plain.mistakes]


@pytest.mark.parametrize(("n_labels", "has_matrix"), [(30, True), (31, False)])
def test_too_wide_a_matrix_becomes_a_list_of_pairs(n_labels, has_matrix):
    evaluation = evaluation_of([f"label {at:02d}" for at in range(n_labels)], 200)
    page = Page(page_html(evaluation))
    assert ("confusion" in page.attributes("class")) is has_matrix
    if not has_matrix:
        header, *rows = page.tables[2]
        assert header == ["true label", "predicted", "texts", "share of the label"]
        assert 0 < len(rows) <= 25
        true, predicted = (evaluation.classes.index(name) for name in rows[0][:2])
        off_diagonal = evaluation.confusion - np.diag(evaluation.confusion.diagonal())
        assert int(rows[0][2]) == off_diagonal[true, predicted] == off_diagonal.max()


def test_what_is_not_defined_says_why():
    scores = scores_of(np.zeros((3, 1)), ["only"])
    page = Page(page_html(Evaluation.of(["x"] * 3, ["only"] * 3, scores)))
    assert [row[1] for row in page.tables[0]] == ["value"] + ["not defined"] * 5
    assert (
        "Log loss, Brier score, Accuracy, Macro-F1, ECE: not defined, since there is "
        "one label only, of probability 1."
    ) in page.text


def test_an_infinite_log_loss_says_so():
    log_proba = np.array([[0.0, -np.inf], [np.log(0.5)] * 2])
    scores = scores_of(log_proba, ["a", "b"])
    page = Page(page_html(Evaluation.of(["x", "y"], ["b", "b"], scores)))
    assert page.tables[0][1] == ["Log loss", "∞"]
    assert (
        "Log loss: infinite, since the true label of 1 of 2 texts has probability 0."
    ) in page.text


def test_a_threshold_is_described():
    drawn = posteriors(400, 3)
    scores = scores_of(drawn.log_proba, drawn.names)
    texts = ["x"] * 400
    chosen = SelectiveClassifier(0.4, confidence="margin").fit(scores, drawn.y)
    evaluation = Evaluation.of(texts, drawn.y, scores, selective=chosen)
    text = Page(page_html(evaluation)).text
    assert (
        "A text is answered where the lead of the most probable label over the second "
        f"is at least {chosen.threshold_:.4g}; elsewhere the answer is withheld."
    ) in text
    assert "at most 40\N{NO-BREAK SPACE}% of the answers are wrong" in text
    assert "Texts are sorted by margin." in text
    assert f"threshold {chosen.threshold_:.3g}" in text


def test_a_threshold_that_nothing_reaches_is_described(caplog):
    drawn = posteriors(60, 3)
    scores = scores_of(drawn.log_proba, drawn.names)
    chosen = SelectiveClassifier(0.001).fit(scores, drawn.y)
    assert caplog.text
    evaluation = Evaluation.of(["x"] * 60, drawn.y, scores, selective=chosen)
    text = Page(page_html(evaluation)).text
    assert "No threshold can guarantee this, so no text is answered." in text
    assert "inf" not in text


def test_the_page_does_not_depend_on_settings_of_matplotlib(plain):
    expected = page_html(plain)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        settings = dict(mpl.rcParams)
        assert page_html(plain) == expected
        assert dict(mpl.rcParams) == settings


def test_without_matplotlib_a_notebook_shows_the_numbers_and_a_report_is_refused():
    code = """
import sys
sys.modules["matplotlib"] = None  # as if it were not installed
import numpy as np
from classify.errors import MissingDependencyError
from classify.report import Evaluation, check_matplotlib, write_report
from tests.posteriors import scores_of
scores = scores_of(np.log([[0.6, 0.4], [0.2, 0.8]]), ["a", "b"])
evaluation = Evaluation.of(["x", "y"], ["a", "b"], scores)
print(evaluation._repr_html_())
for refused in (check_matplotlib, lambda: write_report(evaluation, sys.argv[1])):
    try:
        refused()
    except MissingDependencyError as error:
        print(error, file=sys.stderr)
"""
    process = subprocess.run(
        [sys.executable, "-c", code, "/nowhere"],
        capture_output=True,
        text=True,
        check=True,
    )
    message = (
        "The pictures of a report are drawn with matplotlib, which is not installed. "
        "Install it with: pip install 'classify-lm[plots]'"
    )
    assert process.stderr.splitlines() == [message] * 2
    shown = Page(process.stdout)
    assert message in shown.text
    assert len(shown.tables) == 3


def test_a_notebook_gets_the_same_body_and_styles_that_touch_nothing_else(plain, page):
    shown = Page(notebook_html(plain))
    assert {"html", "head", "body", "title", "meta", "main"} & shown.tags() == set()
    assert shown.text.split() == page.text.split()
    assert shown.attributes("class")[0] == "classify-report"
    rules = re.sub(r"/\*.*?\*/", "", shown.styles, flags=re.DOTALL)
    selectors = re.findall(r"([^{}]+)\{", rules)
    assert len(selectors) > 30
    for selector in selectors:
        for part in selector.strip().split(","):
            assert part.strip().startswith((".classify-report", "@media"))
