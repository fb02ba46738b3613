from dataclasses import replace

import numpy as np
import pytest
from markupsafe import Markup

from classify import PromptTemplate, SelectiveClassifier, ZeroShotClassifier
from classify.errors import InputError
from classify.estimators.prompt_choice import PromptTuning, TunedPrompt
from classify.markup import probability, table
from classify.scoring import Chain, Reasoning, Trajectory
from classify.verbalizer.audit import LabelAudit, WordAudit
from classify.word_tracking import TrackedText, TrackedWord, TrackedWords
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


def trajectory(n_steps=3):
    """`` s`` is the first token of two labels, ``hip`` a later one of one of them."""
    p = np.tile([[0.5, 0.2, 0.1, 0.05]], (n_steps, 1))
    return Trajectory(
        np.log(p),
        (" <b>", " s", "hip", " x"),
        (("<b>bold</b>",), ("ship", "sea"), ("ship",), ("x",)),
        (True, True, False, True),
        tuple(f" <i>{at}" for at in range(n_steps)),
    )


def test_a_trajectory_shows_the_first_tokens_of_labels_and_their_sum():
    page = Page(trajectory()._repr_html_())
    ((header, *rows),) = page.tables
    titles = ["' <b>': <b>bold</b>", "' s': ship, sea", "' x': x"]
    assert header == ["step", "generated", "any label", *titles]
    assert rows == [
        [str(at), f"␣<i>{at}", "0.7500", "0.5000", "0.2000", "0.0500"]
        for at in range(3)
    ]
    assert not {"b", "i"} & page.tags()


def test_of_a_long_trajectory_the_middle_is_left_out():
    ((_, *rows),) = Page(trajectory(45)._repr_html_()).tables
    assert [row[0] for row in rows[:10]] == [str(at) for at in range(10)]
    assert rows[10][:2] == ["…", "25 more steps"]
    assert [row[0] for row in rows[11:]] == [str(at) for at in range(35, 45)]


def test_a_thought_without_tokens_has_a_trajectory_without_rows():
    empty = replace(trajectory(), logprobs=np.empty((0, 4)), tokens=())
    assert Page(empty._repr_html_()).tables[0][1:] == []


def test_reasoning_shows_each_thought_with_its_label():
    logprobs = np.log([[0.3, 0.1], [0.1, 0.4], [1e-9, 1e-9]])
    logprobs[2] = -np.inf
    thoughts = ["A <b>bill</b>.", "word " * 100, ""]
    chains = tuple(
        Chain(text, (), (), at + 1, at == 1, logprobs[at])
        for at, text in enumerate(thoughts)
    )
    shown = Reasoning(chains, ("<i>bill</i>", "ship"))
    page = Page(shown._repr_html_())
    ((header, *rows),) = page.tables
    titles = ["chain", "thought", "tokens", "label", "probability", "label mass"]
    assert header == titles
    cut = rows[1].pop(1)
    assert cut.startswith("word word")
    assert "…" in cut
    assert len(cut) <= 240
    assert rows == [
        ["1", "A <b>bill</b>.", "1", "<i>bill</i>", "0.7500", "0.4000"],
        ["2", "2 (cut)", "ship", "0.8000", "0.5000"],
        ["3", "", "3", "none has any probability", "0.0000", "0.0000"],
    ]
    assert page.text.endswith("Reasoning(3 thoughts of 6 tokens, 1 cut)")
    assert not {"b", "i"} & page.tags()
    many = replace(shown, chains=chains * 4)
    page = Page(many._repr_html_())
    assert len(page.tables[0]) == 11
    assert page.text.endswith(
        "Reasoning(12 thoughts of 24 tokens, 4 cut), the first 10"
    )


def test_tracked_words_show_generations_and_why_texts_were_set_aside():
    words = tuple(TrackedWord(f"<b>{at}", (at,), ("x",), True) for at in range(6))
    logprobs = np.log([np.arange(1, 7) / 100, np.arange(6, 0, -1) / 10])
    one = TrackedText("<i>a</i> b", ("<i>a</i>", " b"), logprobs, "stop")
    error = InputError("There is no <u>text</u>.")
    tracked = TrackedWords(words, {0: (one, one), 2: (one,)}, {1: error})
    page = Page(tracked._repr_html_())
    assert len(page.tables) == 3
    assert page.tables[0] == [
        ["step", "generated", "<b>0", "<b>1", "<b>2", "<b>3"],
        ["0", "<i>a</i>", "0.0100", "0.0200", "0.0300", "0.0400"],
        ["1", "␣b", "0.6000", "0.5000", "0.4000", "0.3000"],
    ]
    assert "Text 0, generation 1: <i>a</i> b" in page.text
    assert "Text 2: <i>a</i> b" in page.text
    assert "Not shown: 2 that never come as high." in page.text
    assert "Text 1: There is no <u>text</u>." in page.text
    assert page.text.endswith("TrackedWords(6 words in 3 generations, 1 set aside)")
    assert not {"b", "i", "u"} & page.tags()
    many = TrackedWords(words, dict.fromkeys(range(9), (one,)), {})
    page = Page(many._repr_html_())
    assert len(page.tables) == 3
    assert page.text.endswith("TrackedWords(6 words in 9 generations), the first 3")


def test_decisions_show_labels_and_reasons():
    proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.05, 0.95]])
    scores = scores_of(np.log(proba) - [[0.0], [0.0], [3.0]], ["<b>", "ham"])
    selective = SelectiveClassifier.at(0.8, ["<b>", "ham"], min_label_mass=0.5)
    page = Page(selective.decide(scores)._repr_html_())
    assert page.tables == [
        [
            ["text", "label", "confidence", "reason"],
            ["0", "<b>", "0.9000", ""],
            ["1", "–", "0.6000", "low probability"],
            ["2", "–", "0.9500", "low label mass"],
        ]
    ]
    assert page.text.endswith(
        "1 of 3 texts answered; no answer: low probability (1), low label mass (1)"
    )
    assert "b" not in page.tags()
    page = Page(selective.decide(scores[[0] * 12])._repr_html_())
    assert len(page.tables[0]) == 11
    assert page.text.endswith("12 of 12 texts answered, the first 10")


def test_the_score_of_a_text_shows_its_likeliest_labels():
    clf = ZeroShotClassifier(labels=["New", "New York", "<b>"], model="demo")
    found = clf.label_logprobs(["I love New York."], return_steps=True)
    [score] = found.text_scores
    page = Page(score._repr_html_())
    ((header, *rows),) = page.tables
    assert header == ["p(label | prompt)", "label"]
    p = dict(zip(found.classes, np.exp(found.values[0]), strict=True))
    assert [row[1] for row in rows] == sorted(p, key=p.get, reverse=True)
    assert [row[0] for row in rows] == [probability(p[row[1]]) for row in rows]
    assert f"Label mass {probability(found.label_mass[0])}, unresolved" in page.text
    assert "b" not in page.tags()
    assert repr(score) == (
        f"TextScore({', '.join(f'{name} {mass}' for mass, name in rows)})"
    )


def test_compared_prompts_have_names_that_are_escaped():
    prompt = TunedPrompt("<b>", PromptTemplate(), 0.1, 0.2, 3.0)
    page = Page(PromptTuning((prompt,), 9, is_labelled=False)._repr_html_())
    assert "best: '<b>'" in page.text
    assert "b" not in page.tags()


def test_cells_are_escaped_and_know_their_direction():
    shown = table("lr", ["<a>", "n"], [["</td>", "1"], [Markup("<b>x</b>"), "2"]])
    page = Page(shown)
    assert page.tables == [[["<a>", "n"], ["</td>", "1"], ["x", "2"]]]
    assert page.attributes("dir") == ["auto"] * 3
    assert page.tags() == {"table", "thead", "tbody", "tr", "th", "td", "b"}


def test_a_row_as_wide_as_the_header_is_needed():
    with pytest.raises(ValueError, match="zip"):
        table("lr", ["a", "b"], [["1"]])
