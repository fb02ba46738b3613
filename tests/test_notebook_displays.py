import numpy as np
import pytest
from markupsafe import Markup

from classify import ZeroShotClassifier
from classify.markup import table
from classify.verbalizer.audit import LabelAudit, WordAudit
from tests.html_pages import Page
from tests.posteriors import posteriors, scores_of


def test_label_logprobs_show_the_likeliest_labels_of_the_first_texts():
    drawn = posteriors(12, 4)
    scores = scores_of(drawn.log_proba - 1.0, ["a", "b", "<i>c</i>", "d"])
    scores.unresolved[0] = 0.25
    scores.truncated[1] = True
    page = Page(scores._repr_html_())
    ((header, *rows),) = page.tables
    assert header == [
        "text",
        "most likely labels",
        "label mass",
        "unresolved",
        "truncated",
    ]
    assert [row[0] for row in rows] == [str(at) for at in range(10)]
    for row, values in zip(rows, drawn.log_proba, strict=False):
        order = sorted(range(4), key=lambda at: -values[at])[:3]
        assert row[1] == ", ".join(
            f"{scores.classes[at]} {np.exp(values[at]):.3f}" for at in order
        )
        assert row[2] == f"{np.exp(-1):.3f}"
    assert [row[3] for row in rows] == ["0.250"] + ["0.000"] * 9
    assert [row[4] for row in rows] == ["", "yes"] + [""] * 8
    assert page.text.endswith("), the first 10")
    assert "i" not in page.tags()


def test_label_logprobs_of_texts_without_any_mass_or_without_texts():
    scores = scores_of(np.array([[-np.inf, -np.inf], [-1.0, -np.inf]]), ["a", "b"])
    ((_, *rows),) = Page(scores._repr_html_()).tables
    assert [row[1] for row in rows] == ["none has any probability", "a 1.000"]
    page = Page(scores[[]]._repr_html_())
    assert len(page.tables[0]) == 1
    assert page.text.endswith("LabelLogprobs(0 texts, 2 labels)")


@pytest.fixture(scope="module")
def audit():
    return ZeroShotClassifier(labels=["New", "New York", "<b>"], model="demo").audit()


def test_the_label_audit_shows_words_and_their_tokens(audit):
    page = Page(audit._repr_html_())
    ((header, *rows),) = page.tables
    assert header == ["label", "word", "tokens", "token ids", "begins"]
    for row, word in zip(rows, audit.words, strict=True):
        assert row[:2] == [word.label, word.word]
        assert len(row[2].split()) == len(word.pieces)
        assert row[3] == " ".join(map(str, word.token_ids))
    assert [row[4] for row in rows] == ["New York", "", ""]
    assert "New ␣ Y or k <|end|>" in [row[2] for row in rows]
    assert "b" not in page.tags()
    assert "Shown: 3 of 3 words" in page.text
    assert "End token: <|end|>" in page.text
    assert f"Trie: {audit.n_nodes} nodes" in page.text


def test_a_long_label_audit_is_cut_and_says_so():
    words = tuple(WordAudit(f"l{at}", f"w{at}", (at,), ("x",), ()) for at in range(150))
    audit = LabelAudit(
        words, None, ("\n",), "", 0, (), False, 151, 1, 1, 1, True, None, None, None
    )
    page = Page(audit._repr_html_())
    assert len(page.tables[0]) == 101
    assert "Shown: 100 of 150 words" in page.text
    assert "Prompt ends: … ⏎" in page.text
    assert "End token: none" in page.text
    assert page.text.endswith("The words' tokens depend on how a text ends")


def test_cells_are_escaped_and_know_their_direction():
    shown = table("lr", ["<a>", "n"], [["</td>", "1"], [Markup("<b>x</b>"), "2"]])
    page = Page(shown)
    assert page.tables == [[["<a>", "n"], ["</td>", "1"], ["x", "2"]]]
    assert page.attributes("dir") == ["auto"] * 3
    assert page.tags() == {"table", "thead", "tbody", "tr", "th", "td", "b"}


def test_a_row_as_wide_as_the_header_is_needed():
    with pytest.raises(ValueError, match="zip"):
        table("lr", ["a", "b"], [["1"]])
