import re

import pytest

from classify import LabelSet, PromptTemplate, Verbalizer
from classify.demo import model_folder
from classify.errors import LabelError, PromptError, PromptTooLongError
from classify.tokenizer import Tokenizer, load_tokenizer
from tests.tiny_tokenizers import byte_level, metaspace

LABELS = LabelSet.parse(["billing", "shipping"])
DESCRIBED = LabelSet.parse({"billing": "Invoices and charges", "shipping": None})
NO_LIMIT = 10**6


def text_of(prompt, row, suffix=""):
    return "".join(segment.text for segment in prompt.render(row)) + suffix


def compile_plain(template=None, labels=LABELS, **options):
    return PromptTemplate(template, chat=False, **options).compile(byte_level(), labels)


def compile_chat(template=None, labels=LABELS, **options):
    return PromptTemplate(template, chat=True, **options).compile(byte_level(), labels)


def raises(message: str, error=PromptError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def test_plain_template_is_what_people_write():
    assert text_of(compile_plain("{text}\nTopic:"), {"text": "hi"}) == "hi\nTopic:"


def test_braces_are_doubled():
    prompt = compile_plain('{{"text": "{text}"}}')
    assert text_of(prompt, {"text": "{x}"}) == '{"text": "{x}"}'


def test_columns_and_options():
    prompt = compile_plain("{title}: {text} ({labels})")
    row = {"text": "body", "title": "Head", "unused": "x"}
    assert text_of(prompt, row) == "Head: body (billing, shipping)"
    assert prompt.fields == ("title", "text")


def test_options_with_descriptions_are_lines():
    prompt = compile_plain("{labels}\n\n{text}", DESCRIBED)
    expected = "- billing: Invoices and charges\n- shipping\n\nx"
    assert text_of(prompt, {"text": "x"}) == expected


def test_options_can_be_told():
    prompt = compile_plain("{labels}\n{text}", DESCRIBED, options="inline")
    assert text_of(prompt, {"text": "x"}) == "billing, shipping\nx"


def test_options_are_listed_as_they_are_answered():
    labels = LabelSet.parse({"pos": ["positive", "good"], "neg": ["negative"]})
    prompt = compile_plain("{labels} {text}", labels)
    assert text_of(prompt, {"text": "x"}) == "positive, negative x"


def listed_as_answered(tokenizer, options, *, chat):
    """Tell of each label whether the prompt holds the very tokens of its answer."""
    labels = LabelSet.parse(["billing", "refund request", "New York", "shipping"])
    prompt = PromptTemplate(options=options, chat=chat).compile(tokenizer, labels)
    segments = prompt.render({"text": "Where is it?"})
    token_ids = tokenizer.encode([segments], add_bos=False)[0]
    answers = [
        word.token_ids for word in Verbalizer().compile(prompt, labels).audit().words
    ]
    return [
        any(token_ids[at : at + len(ids)] == ids for at in range(len(token_ids)))
        for ids in answers
    ]


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize(
    "tokenizer",
    [byte_level(), metaspace(), load_tokenizer(str(model_folder()))],
    ids=["byte-level", "metaspace", "demo"],
)
def test_verbatim_options_are_the_tokens_of_the_answers(tokenizer, chat):
    assert all(listed_as_answered(tokenizer, "verbatim", chat=chat))


@pytest.mark.parametrize("options", ["inline", "lines"])
def test_other_options_have_tokens_of_their_own(options):
    assert not any(listed_as_answered(byte_level(), options, chat=True))


def test_verbatim_options_stand_alone_on_their_lines():
    prompt = compile_plain("Topics:\n{labels}\n{text}", DESCRIBED, options="verbatim")
    assert text_of(prompt, {"text": "x"}) == "Topics:\n billing\n shipping\nx"
    prompt = compile_chat("Topics:\n{labels}\n{text}", DESCRIBED, options="verbatim")
    assert "Topics:\nbilling\nshipping\nx" in text_of(prompt, {"text": "x"})


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("options", ["inline", "lines", "verbatim", "none"])
def test_own_recipes_show_options_or_not(chat, options):
    prompt = PromptTemplate(chat=chat, options=options).compile(byte_level(), LABELS)
    text = text_of(prompt, {"text": "my text"})
    assert ("billing" in text) == (options != "none")
    assert "my text" in text


def test_the_text_comes_first_where_it_is_told_to():
    first = PromptTemplate(text_position="first")
    prompt = first.compile(byte_level(), LABELS)
    assert text_of(prompt, {"text": "my text"}) == (
        "<|bos|><|user|>\nText: my text\n\nAnswer with the category only. Which of "
        "these categories describes the text best: billing, shipping?<|end|>\n"
        "<|assistant|>\n"
    )
    plain = first.compile(byte_level(chat=False), LABELS)
    assert text_of(plain, {"text": "my text"}) == (
        "Text: my text\n\nCategories: billing, shipping\nCategory:"
    )


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(
    ("answer", "options"),
    [
        *(("text", each) for each in ("inline", "lines", "verbatim", "none")),
        *(("code", each) for each in ("inline", "lines")),  # there are no others
    ],
)
def test_all_that_differs_between_questions_stands_behind_the_text(
    chat, answer, options
):
    texts = [
        text_of(
            PromptTemplate(
                chat=chat, options=options, answer=answer, text_position="first"
            ).compile(byte_level(), LabelSet.parse(labels)),
            {"text": "my text"},
        )
        for labels in (["calm", "angry"], {"low": "can wait", "high": None})
    ]
    # What comes before the first label, or before the end where none is listed.
    starts = {re.split(r"(A. |- )?\b(calm|low)\b|<\|end", text)[0] for text in texts}
    assert len(starts) == 1
    assert "my text" in starts.pop()


def test_a_thought_is_not_told_to_be_the_category_only():
    recipe = PromptTemplate(text_position="first")
    prompt = recipe.compile(byte_level(), LABELS, reasons=True)
    written = text_of(prompt, {"text": "my text"})
    asked = "Which of these categories describes the text best: billing, shipping?"
    assert f"Text: my text\n\n{asked}" in written


def test_a_text_position_that_changes_nothing_is_refused():
    with raises(
        "text_position='first' is for the default template, but template has its own "
        "place for the text: remove one of the two."
    ):
        PromptTemplate("{text}", text_position="first")
    with raises(
        "text_position='last' cannot be used for yes/no questions, which share the "
        "reading of the text: remove text_position, or give a template."
    ):
        PromptTemplate(asks="whether", text_position="last")


def test_chat_template_is_used_when_there_is_one():
    assert PromptTemplate().compile(byte_level(), LABELS).is_chat
    assert not PromptTemplate().compile(byte_level(chat=False), LABELS).is_chat


def test_chat_layout():
    prompt = compile_chat(
        "{text}?", system="Choose: {labels}", examples=[("old", "shipping")]
    )
    assert text_of(prompt, {"text": "new"}) == (
        "<|bos|><|system|>\nChoose: billing, shipping<|end|>\n"
        "<|user|>\nold?<|end|>\n<|assistant|>\nshipping<|end|>\n"
        "<|user|>\nnew?<|end|>\n<|assistant|>\n"
    )
    assert prompt.slot.end == "<|end|>"
    assert not prompt.tail_follows_data


def test_answer_prefix_stands_in_the_models_mouth():
    prompt = compile_chat("{text}", answer_prefix="Topic:", examples=[("a", "billing")])
    text = text_of(prompt, {"text": "b"})
    assert "<|assistant|>\nTopic: billing<|end|>" in text
    assert text.endswith("<|assistant|>\nTopic:")
    assert prompt.separator_before("billing") == " "


def test_plain_layout_with_examples():
    prompt = compile_plain(
        "{text}\nTopic:", system="Sort mail.", examples=[({"text": "old"}, "shipping")]
    )
    assert text_of(prompt, {"text": "new"}) == (
        "Sort mail.\n\nold\nTopic: shipping\n\nnew\nTopic:"
    )


@pytest.mark.parametrize(
    ("template", "word", "separator"),
    [
        ("{text}\nTopic:", "billing", " "),
        ("{text}\nTopic: ", "billing", ""),
        ("{text}\n", "billing", ""),
        ("{text}", "billing", " "),
        ("{text}\nTopic:", "请求", ""),
        ("{text}\nTopic:", "返金", ""),
        ("{text}\nTopic:", "배송", " "),
        ("{text}\nTopic:", "😀", " "),
        ("{text}<|assistant|>", "billing", ""),
        # Behind an opening mark there is no space, behind a closing one there is.
        ('{text}\n{{"topic": "', "billing", ""),
        ('{text}\n{{"topic":"', "billing", ""),
        ('{text}\n{{"topic": ["', "billing", ""),
        ('Text: "{text}"', "billing", " "),
        ('Text: "{text} "', "billing", " "),
        ('Text: "{text}"\nTopic: "', "billing", ""),
        ('"{text}" is about "', "billing", ""),
        ('The topic of "{text}" is ""', "billing", " "),
        ("{text}\nIt's about '", "billing", ""),
        ("'{text}' isn't 'it's'", "billing", " "),
        ("{text}\nthe users'", "billing", " "),
        ("the users' '{text}", "billing", " "),
        ("{text}\nthe users' '", "billing", ""),
        ("{text}\n5'", "billing", " "),
        ('a quotation\nof {text} lines."', "billing", " "),
        ("{text}\nTopic: “", "billing", ""),
        ("Text: “{text}”", "billing", " "),
        ("{text}\nThema: „", "billing", ""),
        ("Text: „{text}“", "billing", " "),
        ("{text}\nSujet : «", "billing", ""),
        ("Texte : «{text}»", "billing", " "),
        ("{text}\nThema: »", "billing", ""),
        ("Text: »{text}«", "billing", " "),
        ("{text}\nthe customer’s", "billing", " "),
        ("{text}\nthe customers’", "billing", " "),
        ("{text}\nTopic: ‘", "billing", ""),
        ("{text}\n主题“", "billing", ""),
        ("{text}\n主题「", "billing", ""),
        ("主题「{text}」", "billing", " "),
        ("{text}\nTopic: `", "billing", ""),
        ("`{text}`", "billing", " "),
        ("{text} (", "billing", ""),
        ("({text})", "billing", " "),
        ("{text}\nTopic: <", "billing", ""),
        ("{text}\n<topic>", "billing", " "),
        ("{text}\nlabels[", "billing", ""),
        ("{text}\n{{", "billing", ""),
        ('<|user|>"{text}<|assistant|>"', "billing", ""),
    ],
)
def test_one_space_before_the_label(template, word, separator):
    assert compile_plain(template).separator_before(word) == separator


def test_chat_answers_begin_at_once():
    assert compile_chat("{text}").separator_before("billing") == ""


@pytest.mark.parametrize(
    ("prefix", "space"),
    [("Topic:", " "), ("Topic: ", ""), ('{"topic": "', ""), ('"topic"', " ")],
)
def test_examples_answer_as_the_model_would(prefix, space):
    options = {"examples": [("old", "shipping")], "answer_prefix": prefix}
    for prompt in (compile_plain("{text}\n", **options), compile_chat(**options)):
        assert f"{prefix}{space}shipping" in text_of(prompt, {"text": "new"})
        assert prompt.separator_before("billing") == space


def test_marks_in_the_data_open_nothing():
    prompt = compile_plain("{text} {labels}\nTopic:", LabelSet.parse(['a "b', "c"]))
    assert prompt.separator_before("c") == " "
    assert compile_plain("{text}").separator_before("c") == " "


def test_a_chat_template_that_puts_a_space_before_answers():
    own = byte_level()
    spaced = Tokenizer(own.backend, "spaced")
    before = own.backend.chat_template
    own.backend.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} "
        "[/INST]{% else %} {{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    )
    try:
        prompt = PromptTemplate("{text}", chat=True).compile(spaced, LABELS)
    finally:
        own.backend.chat_template = before
    assert text_of(prompt, {"text": "x"}) == "[INST] x [/INST]"
    assert prompt.separator_before("billing") == " "


def test_data_is_marked_as_data():
    prompt = compile_chat("{text} {labels}")
    texts = [s.text for s in prompt.render({"text": "mine"}) if s.is_data]
    assert texts == ["mine", "billing, shipping"]


def test_long_texts_are_cut_and_reported():
    prompt = compile_plain("{text}\nTopic:")
    rows = [{"text": "short"}, {"text": "the parcel " * 500}, {"text": "é" * 900}]
    encoded = prompt.encode(rows, suffix=" billing", max_tokens=40)
    assert encoded.truncated == [False, True, True]
    for at in (1, 2):
        assert 36 <= len(encoded.token_ids[at]) <= 40
        text = byte_level().decode(encoded.token_ids[at])
        assert text == f"<|bos|>{encoded.rows[at]['text']}\nTopic: billing"
        assert rows[at]["text"].startswith(encoded.rows[at]["text"])


def test_a_text_that_just_fits_is_not_cut():
    prompt = compile_plain("{text}\nTopic:")
    row = {"text": "the parcel was shipped"}
    full = prompt.encode([row], suffix=" billing", max_tokens=NO_LIMIT).token_ids[0]
    encoded = prompt.encode([row], suffix=" billing", max_tokens=len(full))
    assert encoded.truncated == [False]
    assert encoded.token_ids == [full]


def test_too_long_can_be_an_error():
    prompt = compile_plain("{text}\nTopic:", too_long="error")
    with raises(
        "A prompt needs 205 tokens, but the model takes 20: shorten the text, or allow "
        "it to be cut (too_long: truncate).",
        PromptTooLongError,
    ):
        prompt.encode([{"text": "x" * 200}], suffix=" billing", max_tokens=20)


def test_instructions_that_do_not_fit():
    prompt = compile_plain("instructions " * 30 + "{text}")
    with pytest.raises(PromptTooLongError, match="tokens without its text"):
        prompt.encode([{"text": "x"}], suffix=" billing", max_tokens=20)


@pytest.mark.parametrize(
    "template", ["{}", "{0}", "{text.x}", "{text!r}", "{a[0]}", "{"]
)
def test_malformed_placeholders(template):
    with pytest.raises(PromptError, match=r"^The template .* cannot be read: "):
        PromptTemplate(template)


def test_a_template_must_depend_on_the_text():
    with raises(
        "The template 'Topic of {labels}:' is the same for every text: put {text}, or "
        "the name of a column in braces, where the text belongs."
    ):
        PromptTemplate("Topic of {labels}:")


def test_missing_column():
    with raises(
        "The prompt needs the column 'title', which the data does not have. Columns: "
        "'text'."
    ):
        compile_plain("{title} {text}").render({"text": "x"})


def test_chat_without_a_chat_template():
    with raises(
        "The tokenizer of 'byte-level' has no chat template, which chat=True needs: "
        "use chat=False, or a chat model."
    ):
        PromptTemplate(chat=True).compile(byte_level(chat=False), LABELS)


def test_examples_must_be_of_known_labels():
    with pytest.raises(LabelError, match="'bills' is not one of the labels"):
        compile_plain("{text}:", examples=[("a", "bills")])


def test_options_none_contradicts_a_placeholder():
    with raises(
        "The template has the placeholder {labels}, but options='none' lists no "
        "labels: remove one of the two."
    ):
        PromptTemplate("{labels} {text}", options="none")


def test_only_the_options_may_stand_in_the_system_prompt():
    with raises(
        "The system prompt has the placeholder {text}: only {labels} is allowed there, "
        "since it is the same for every text."
    ):
        PromptTemplate("{text}", system="{text}")


def test_values_are_checked():
    with raises(
        "The 'options' parameter of PromptTemplate must be one of 'auto', 'inline', "
        "'lines', 'verbatim', 'none'. Got 'letters' instead."
    ):
        PromptTemplate("{text}", options="letters")
