"""Examples from a table: which are shown, that they are shown as listed ones are."""

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from classify import LabelSet, PromptTemplate, ZeroShotClassifier
from classify.config import Task, task_yaml
from classify.demo import labelled_csv
from classify.errors import DataError, LabelError, PromptError
from classify.jobs import Classification, RowColumns
from classify.jobs.identity import job_fingerprints
from classify.prompts.few_shot import ExampleChooser
from classify.prompts.free import compile_free
from classify.rows.encoding import RowEncoder
from classify.verbalizer import ScorablePrompt, Verbalizer
from tests.tiny_tokenizers import byte_level

LABELS = LabelSet.parse(["billing", "shipping", "returns"])
TABLE = pd.DataFrame(
    {
        "text": [
            *("The invoice is wrong", "Where is my parcel", "I want to send it back"),
            *("I was charged twice", "The parcel is late", "How do I return shoes"),
            *("Charged for the parcel", None, "Nobody answers", "Late again"),
        ],
        "label": [
            *("billing", "shipping", "returns", "billing", "shipping", "returns"),
            *("billing", "billing", None, "shipping"),
        ],
    }
)
USABLE = TABLE.dropna()
TEXTS = ["My parcel is late.", "An invoice came twice.", "the  PARCEL is late"]


def few_shot(**options):
    usual = {"template": "{text}\nTopic:", "examples": TABLE}
    return PromptTemplate(**usual | options)


def shown(prompt, texts=TEXTS, labels=LABELS):
    """Return the texts and labels of the examples that each text is asked with."""
    chooser = ExampleChooser(prompt, byte_level(), labels)
    rows = [{"text": text} for text in texts]
    return [
        [(row["text"], label) for row, label in each] for each in chooser.choose(rows)
    ]


def token_ids(prompt, text, labels=LABELS, **options):
    encoder = RowEncoder(prompt, Verbalizer(), byte_level(), **options)
    [asked] = encoder.encode([{"text": text}], [labels], 10**6)
    return [each.token_ids for each in (asked, *asked.others)]


def refused(message, kind):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("choice", ["balanced", "random", "nearest"])
@pytest.mark.parametrize(
    "further",
    [
        {},
        {"answer_prefix": "Topic:"},
        {"answer_prefix": '{"label": "'},
        {"template": "{text}", "system": "Sort: {labels}"},
        {"template": None, "answer": "both", "n_orders": 3},
    ],
    ids=str,
)
def test_they_are_shown_as_listed_examples_are(chat, choice, further):
    own = {"chat": chat, **further}
    chosen = few_shot(example_choice=choice, n_examples=3, **own)
    for text, examples in zip(TEXTS, shown(chosen), strict=True):
        listed = PromptTemplate(
            **{"template": "{text}\nTopic:"} | own, examples=examples
        )
        assert len(examples) == 3
        assert token_ids(chosen, text) == token_ids(listed, text)


@pytest.mark.parametrize("chat", [True, False])
def test_a_model_that_thinks_first_sees_them_too(chat):
    chosen = few_shot(n_examples=2, chat=chat)
    [examples] = shown(chosen, TEXTS[:1])
    listed = PromptTemplate("{text}\nTopic:", examples=examples, chat=chat)
    thinks = {"max_thought_tokens": 8}
    assert token_ids(chosen, TEXTS[0], **thinks) == token_ids(
        listed, TEXTS[0], **thinks
    )


def test_answers_follow_after_a_space_where_their_script_has_spaces():
    labels = LabelSet.parse(["退货", "billing"])
    table = pd.DataFrame({"text": ["a", "b"], "label": ["退货", "billing"]})
    chosen = PromptTemplate("{text}\nTopic:", examples=table, chat=False)
    examples = shown(chosen, ["c"], labels)[0]
    listed = PromptTemplate("{text}\nTopic:", examples=examples, chat=False)
    assert token_ids(chosen, "c", labels) == token_ids(listed, "c", labels)


def test_balanced_examples_have_each_label_equally_often():
    for seed in range(5):
        prompt = few_shot(n_examples=5, example_seed=seed)
        examples = shown(prompt, ["Hello"])[0]
        assert len({text for text, _ in examples}) == 5
        assert sorted(Counter(label for _, label in examples).values()) == [1, 2, 2]
    draws = {tuple(shown(few_shot(example_seed=at), ["Hello"])[0]) for at in range(5)}
    assert len(draws) > 1


def test_drawn_examples_are_the_same_for_all_texts():
    for choice in ("balanced", "random"):
        first, second, _ = shown(few_shot(example_choice=choice, n_examples=4))
        assert first == second
        assert first == shown(few_shot(example_choice=choice, n_examples=4))[0]


def test_the_nearest_by_tf_idf_stand_next_to_the_text():
    pool = USABLE.text.str.lower().tolist()
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit(pool)
    vectors = vectorizer.transform(pool).toarray()
    found = shown(few_shot(example_choice="nearest", n_examples=3), TEXTS[:2])
    for text, examples in zip(TEXTS, found, strict=False):
        own = vectorizer.transform([text.lower()]).toarray()[0]
        similar = [float(own @ other) for other in vectors]
        nearest = sorted(range(len(pool)), key=lambda at: -similar[at])[:3]
        expected = [tuple(USABLE.iloc[at][["text", "label"]]) for at in nearest]
        assert examples == expected[::-1]


@pytest.mark.parametrize("choice", ["balanced", "random", "nearest"])
def test_a_text_is_never_its_own_example(choice):
    prompt = few_shot(example_choice=choice, n_examples=6)
    twice = pd.concat([TABLE, TABLE])
    doubled = few_shot(examples=twice, example_choice=choice, n_examples=6)
    for text in USABLE.text:
        written = f"  {text.upper().replace(' ', chr(0x2003))}\n"
        for each in (prompt, doubled):
            [examples] = shown(each, [written])
            assert text not in [example for example, _ in examples]
            assert len({example for example, _ in examples}) == 6


def test_only_the_text_decides_what_a_row_is():
    table = TABLE.assign(title=[f"Title {at}" for at in range(len(TABLE))])
    prompt = PromptTemplate("{title}: {text}\nTopic:", examples=table, n_examples=9)
    chooser = ExampleChooser(prompt, byte_level(), LABELS)
    [examples] = chooser.choose([{"title": "new", "text": TABLE.text[0]}])
    assert len(examples) == len(USABLE) - 1
    assert {"title": "Title 1", "text": TABLE.text[1]} in [
        each.row for each in examples
    ]


@pytest.mark.parametrize("choice", ["balanced", "random", "nearest"])
def test_examples_keep_to_the_token_budget(choice):
    tokenizer = byte_level()

    def n_tokens(examples):
        return sum(len(tokenizer.encode_text(" ".join(each))) for each in examples)

    everything = n_tokens(USABLE[["text", "label"]].itertuples(index=False))
    for most in (everything // 3, everything // 2, everything):
        prompt = few_shot(example_choice=choice, n_examples=20, max_example_tokens=most)
        for examples in shown(prompt):
            assert 0 < n_tokens(examples) <= most


@pytest.mark.parametrize("choice", ["balanced", "nearest"])
def test_examples_leave_room_for_the_whole_text(choice):
    texts = [TEXTS[0], TEXTS[1] * 3]
    chosen = few_shot(example_choice=choice, n_examples=3)

    def encoded(prompt, text, context_length):
        encoder = RowEncoder(prompt, Verbalizer(), byte_level())
        [asked] = encoder.encode([{"text": text}], [LABELS], context_length)
        return asked

    lengths = [len(token_ids(chosen, text)[0]) for text in texts]
    numbers = set()
    for context_length in range(min(lengths) // 4, max(lengths) + 20, 7):
        encoder = RowEncoder(chosen, Verbalizer(), byte_level())
        rows = [{"text": text} for text in texts]
        found = encoder.encode(rows, [LABELS] * 2, context_length)
        for text, examples, asked in zip(
            texts, shown(chosen, texts), found, strict=True
        ):
            for n_shown in range(3, -1, -1):
                some = examples[3 - n_shown :] if choice == "nearest" else examples
                listed = few_shot(examples=some[:n_shown])
                expected = encoded(listed, text, context_length)
                if isinstance(expected, ScorablePrompt) and not expected.truncated:
                    break
            numbers.add(n_shown)
            assert type(asked) is type(expected)
            if isinstance(asked, ScorablePrompt):
                assert asked.token_ids == expected.token_ids
            else:
                assert str(asked) == str(expected)
    assert numbers == {0, 1, 2, 3}


def test_a_text_may_get_some_of_the_labels_only():
    prompt = few_shot(chat=False, n_examples=8)
    encoder = RowEncoder(prompt, Verbalizer(), byte_level())
    some = LABELS.subset(["billing", "returns"])
    [examples] = encoder.examples([{"text": "x"}], some)
    assert {each.label for each in examples} == {"billing", "returns"}
    [billing] = encoder.encode([{"text": "x"}], [some], 10**6)
    assert len(billing.token_ids) > 20


def test_scores_are_those_of_a_prompt_with_these_examples():
    texts = pd.read_csv(labelled_csv()).head(12)
    prompt = PromptTemplate(examples=texts, n_examples=2, example_choice="nearest")
    clf = ZeroShotClassifier(sorted(set(texts.label)), prompt=prompt)
    found = clf.label_logprobs(texts.text[:3].tolist())
    engine, tokenizer = clf.load_engine(), clf.scorer().model.load_tokenizer()
    chooser = ExampleChooser(prompt, tokenizer, clf.scorer().known_labels())
    for at, text in enumerate(texts.text[:3]):
        [examples] = chooser.choose([{"text": text}])
        listed = PromptTemplate(examples=examples)
        alone = ZeroShotClassifier(clf.labels, engine=engine, prompt=listed)
        scores = alone.label_logprobs([text])
        np.testing.assert_allclose(
            found.values[at], scores.values[0], atol=1e-4, rtol=0
        )


def test_equal_tables_make_equal_prompts_and_others_do_not(tmp_path):
    file = tmp_path / "labelled.csv"
    USABLE.to_csv(file, index=False)
    prompts = [
        few_shot(examples=file),
        few_shot(examples=str(file)),
        few_shot(examples=USABLE.reset_index(drop=True)),
    ]
    assert prompts[0] == prompts[1] == prompts[2]
    assert len({*prompts, few_shot(examples=TABLE)}) == 2


def test_a_fingerprint_holds_the_table_and_the_choice(tmp_path):
    def fingerprint(**options):
        clf = ZeroShotClassifier(LABELS, prompt=few_shot(**options))
        return clf.scorer().fingerprint()

    file = tmp_path / "labelled.csv"
    TABLE.to_csv(file, index=False)
    same = fingerprint(examples=file)
    (tmp_path / "moved.csv").write_bytes(file.read_bytes())
    assert fingerprint(examples=tmp_path / "moved.csv") == same
    changed = TABLE.assign(label=TABLE.label.replace("returns", "shipping"))
    for options in (
        {"examples": changed},
        {"n_examples": 3},
        {"example_choice": "nearest"},
        {"example_seed": 1},
        {"max_example_tokens": 100},
    ):
        other = fingerprint(**{"examples": file, **options})
        assert other["prompt"] != same["prompt"]
        assert other["prompt.examples"] != same["prompt.examples"]


def test_a_job_whose_rows_bring_their_labels_has_a_fingerprint():
    for prompt in (few_shot(), few_shot(examples=[("Late", "shipping")])):
        job = Classification(
            classifier=ZeroShotClassifier(prompt=prompt),
            columns=RowColumns(labels="candidates"),
        )
        assert job_fingerprints(job)["fingerprint"]["labels"] == "each row's own"


def test_task_files_name_the_table(tmp_path):
    file = tmp_path / "labelled.csv"
    USABLE.rename(columns={"text": "tweet"}).to_csv(file, index=False)
    settings = {
        "labels": list(LABELS.names),
        "prompt": {
            "examples": str(file),
            "n_examples": 4,
            "example_choice": "random",
            "example_seed": 7,
            "max_example_tokens": 200,
            "example_text_column": "tweet",
        },
    }
    task = Task.parse(settings)
    assert task.prompt.examples.path == str(file)
    (tmp_path / "task.yaml").write_text(task_yaml(task))
    assert Task.from_yaml(tmp_path / "task.yaml") == task
    assert len(shown(task.prompt)[0]) == 4
    unnamed = few_shot()
    with refused(
        "A task file names the file with the examples, and these come from the "
        "DataFrame: write them to a file, and give its path.",
        DataError,
    ):
        task_yaml(Task.parse({"prompt": unnamed}))


@pytest.mark.parametrize(
    ("options", "message", "kind"),
    [
        (
            {"examples": (), "n_examples": 3},
            "n_examples is for examples from a table: give that, or drop n_examples.",
            PromptError,
        ),
        (
            {"examples": [("a", "billing")], "example_choice": "nearest"},
            (
                "example_choice is for examples from a table: give that, or drop "
                "example_choice."
            ),
            PromptError,
        ),
        (
            {"example_choice": "nearest", "example_seed": 3},
            (
                "example_seed is for example_choice='balanced' or "
                "example_choice='random': give that, or drop example_seed."
            ),
            PromptError,
        ),
        (
            {"example_choice": "best"},
            (
                "The 'example_choice' parameter of PromptTemplate must be one of "
                "'balanced', 'random', 'nearest'. Got 'best' instead."
            ),
            PromptError,
        ),
        (
            {"example_label_column": "topic"},
            (
                "There is no column 'topic' with the labels of examples in the "
                "DataFrame. Columns: 'text', 'label'. Choose one with "
                "example_label_column."
            ),
            DataError,
        ),
        (
            {"template": "{title} {text}"},
            (
                "There is no column 'title' for the prompt's {title} of examples in "
                "the DataFrame. Columns: 'text', 'label'."
            ),
            DataError,
        ),
        (
            {"examples": TABLE.assign(label="")},
            "There are no examples in the DataFrame: there is no label.",
            DataError,
        ),
        (
            {"examples": TABLE[:0]},
            "There are no examples in the DataFrame: it has no rows.",
            DataError,
        ),
        (
            {"examples": "-"},
            (
                "Examples cannot be read from '-', which can be read only once: give a "
                "file or a DataFrame."
            ),
            DataError,
        ),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(options, message, kind):
    with refused(message, kind):
        few_shot(**options)


def test_unknown_labels_are_refused_before_the_model_is_loaded():
    clf = ZeroShotClassifier(["billing", "shipping", "return"], prompt=few_shot())
    with refused(
        "The DataFrame has an example of an unknown label: 'returns' is not one of the "
        "labels: 'billing', 'shipping', 'return'. Did you mean 'return'? Correct the "
        "cell, or empty it to leave the example out.",
        LabelError,
    ):
        clf.scorer()


def test_a_budget_that_nothing_fits_into_is_refused():
    with refused(
        "None of the examples in the DataFrame fits into max_example_tokens=1: the "
        "shortest has 5 tokens. Allow more, or give shorter examples.",
        PromptError,
    ):
        shown(few_shot(max_example_tokens=1))


def test_no_example_of_the_labels_is_an_error():
    labels = LabelSet.parse(["praise", "other"])
    with refused(
        "The DataFrame has no example of the labels 'praise', 'other'.", PromptError
    ):
        shown(few_shot(), labels=labels)


@pytest.mark.parametrize("chat", [True, False])
def test_free_answers_begin_with_the_prefix(chat):
    recipe = PromptTemplate(
        examples=[("How?", "Like this.")], answer_prefix="Sure:", chat=chat
    )
    prompt = compile_free(recipe, byte_level())
    text = "".join(segment.text for segment in prompt.render({"text": "Why?"}))
    assert text.count("Sure:") == 2
    assert "Sure: Like this." in text
    assert text.endswith("Sure:")
    with refused(
        "Examples from a table are for labels, and there are none here: give examples "
        "as pairs of a text and its answer.",
        PromptError,
    ):
        compile_free(few_shot(template="{text}", chat=chat), byte_level())
