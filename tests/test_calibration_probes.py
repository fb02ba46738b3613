"""Probe texts, from making them to the scores that a calibrator takes."""

import numpy as np
import pytest

from classify import PromptTemplate, ZeroShotClassifier
from classify.calibration import LabelCalibrator
from classify.demo import model_folder
from classify.errors import InputError
from classify.labels import LabelSet
from classify.prompts.probes import (
    content_free_texts,
    domain_texts,
    premise_texts,
    probe_rows,
)
from classify.rows.encoding import RowEncoder
from classify.scoring import LabelLogprobs, make_strategy, score_prompts
from classify.spec import Scoring
from classify.tokenizer import load_tokenizer
from classify.verbalizer import Verbalizer

TEXTS = ["Where is my PARCEL", "the parcel is lost again", "no answer"]
LABELS = ["billing", "shipping"]


def test_domain_texts_are_words_of_the_domain():
    probes = domain_texts(TEXTS, n=200)
    words = {word for text in TEXTS for word in text.lower().split()}
    assert len(probes) == 200
    for probe in probes:
        *drawn, end = probe.split()
        assert (len(drawn), end) == (4, ".")  # 11 words in 3 texts
        assert set(drawn) <= words
    counts = [sum(probe.split().count(word) for probe in probes) for word in words]
    assert min(counts) > 30
    # "parcel" and "is" stand twice among the words, and are drawn twice as often.
    drawn = " ".join(probes).split()
    assert 1.5 < drawn.count("parcel") / drawn.count("answer") < 2.7


def test_domain_texts_can_be_repeated():
    assert domain_texts(TEXTS) == domain_texts(TEXTS)
    assert domain_texts(TEXTS) != domain_texts(TEXTS, random_state=1)
    assert len(domain_texts(TEXTS)) == 20


def test_texts_without_a_word_are_refused():
    with pytest.raises(InputError) as caught:
        domain_texts(["", "  "])
    assert str(caught.value) == (
        "Domain probes are made of the words of texts, and the given texts contain "
        "none: pass some texts of the domain."
    )


def test_a_premise_may_be_given():
    assert premise_texts("This letter is about") == ("This letter is about",)


@pytest.mark.parametrize(
    ("method", "texts"),
    [
        ("content_free", content_free_texts()),
        ("domain", domain_texts(TEXTS, n=3)),
        ("pmi", premise_texts()),
    ],
)
def test_probes_are_scored_like_texts_the_empty_one_too(method, texts):
    classifier = ZeroShotClassifier(LABELS)
    engine = classifier.load_engine()
    template = PromptTemplate()
    tokenizer = load_tokenizer(str(model_folder()))
    encoder = RowEncoder(template, Verbalizer(), tokenizer)
    rows = probe_rows(texts, template.fields)
    prompts = encoder.encode(
        rows, [LabelSet.parse(LABELS)] * len(rows), engine.context_length
    )
    scored = score_prompts(prompts, make_strategy(Scoring(tolerance=0.0)), engine)
    probes = LabelLogprobs.of(scored, LABELS)
    scores = classifier.label_logprobs(TEXTS)
    made = LabelCalibrator(method).fit(scores, probes=probes)
    joint = probes.values if method == "pmi" else probes.log_proba
    expected = -np.log(np.exp(joint).mean(axis=0))
    np.testing.assert_allclose(made.bias_, expected - expected.mean())
    assert made.explanation_ == (
        f"{method} shifts by what it found on {len(texts)} probes, without labels."
    )
