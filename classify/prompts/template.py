"""The recipe of a prompt, as people write it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from classify.errors import PromptError
from classify.labels import LabelSet
from classify.parameters import (
    TEXT,
    Allowed,
    Setting,
    check_settings,
    listed,
    one_of,
    optional,
)
from classify.prompts.compiled import CompiledPrompt
from classify.prompts.in_words import lay_out_in_words
from classify.prompts.layout import (
    Layout,
    lay_out_chat,
    lay_out_plain,
    lay_out_thought,
)
from classify.prompts.parts import Field, fill, merge, parse
from classify.tokenizer import Segment, Tokenizer
from classify.wording import parameter

__all__ = ["PromptTemplate"]

Options = Literal["auto", "inline", "lines", "verbatim", "none"]

_CHAT: tuple[str | bool, ...] = (True, False, "auto")


def _are_solved(examples: Any) -> bool:
    return isinstance(examples, Sequence) and all(
        isinstance(each, Sequence)
        and len(each) == 2
        and isinstance(each[0], str | Mapping)
        and isinstance(each[1], str)
        for each in examples
    )


def _solved(written: Any) -> Any:
    """Return examples as a task file has them, ``{text: …, label: …}``, as pairs."""
    if not isinstance(written, list | tuple):
        raise ValueError("no list")
    pairs = []
    for example in written:
        if not (
            isinstance(example, Mapping)
            and len(example) > 1
            and "label" in example
            and all(isinstance(value, str) for value in example.values())
        ):
            raise ValueError("no example")
        row = {name: value for name, value in example.items() if name != "label"}
        pairs.append((row, example["label"]))
    return tuple(pairs)


_EXAMPLES = Allowed(
    "a sequence of (text, label)",
    _are_solved,
    "a list of examples, each {text: …, label: …}, with further columns if the "
    "template has them",
)
# The recipes used when none is given: {labels} as "a, b, c", one a line, or not at all.
_CHAT_TEMPLATES = {
    "inline": (
        "Which of these categories describes the text best: {labels}?\n\n"
        "Text: {text}\n\nAnswer with the category only."
    ),
    "lines": (
        "Which of these categories describes the text best?\n{labels}\n\n"
        "Text: {text}\n\nAnswer with the category only."
    ),
    "none": (
        "Which category describes the text best?\n\n"
        "Text: {text}\n\nAnswer with the category only."
    ),
}
_PLAIN_TEMPLATES = {
    "inline": "Categories: {labels}\n\nText: {text}\nCategory:",
    "lines": "Categories:\n{labels}\n\nText: {text}\nCategory:",
    "none": "Text: {text}\nCategory:",
}
# How these end, where no thought is to come before the answer.
_ENDINGS = ("\n\nAnswer with the category only.", "\nCategory:")


def _are_arguments(value: Any) -> bool:
    """Return whether these can be variables of a chat template."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    try:
        json.dumps(dict(value))
        datetime.fromisoformat(value.get("strftime_now", "1999-12-31"))
    except (TypeError, ValueError):
        return False
    return not _OWN_ARGUMENTS & value.keys()


# What the rendering is told besides.
_OWN_ARGUMENTS = {"messages", "add_generation_prompt", "tokenize", "chat_template"}
_ARGUMENTS = Allowed(
    "a mapping of names to values of types that JSON has, strftime_now an ISO date",
    _are_arguments,
    "a mapping of names to values, strftime_now a date such as 2026-11-29",
)


@dataclass(frozen=True)
class PromptTemplate:
    r"""The recipe of a prompt.

    Parameters
    ----------
    template : str or None, default=None
        The user's message (chat) or the whole prompt (plain), with placeholders:
        ``{text}``, ``{labels}`` (the options), and the name of any other column of the
        data. ``{{`` and ``}}`` stand for braces. None takes a recipe of ours that fits
        `options`.
    system : str or None, default=None
        System prompt; may hold ``{labels}``. A plain prompt begins with it.
    examples : sequence of (text, label), default=()
        Solved examples, shown before the text: as turns of the chat, or as repeats of
        the plain prompt. Instead of the text, a mapping of columns is allowed.
    chat : bool or "auto", default="auto"
        Whether to use the tokenizer's chat template. "auto": if it has one.
    options : {"auto", "inline", "lines", "verbatim", "none"}, default="auto"
        How ``{labels}`` is written: ``a, b, c``; or ``- a: description``, one a line;
        or ``a``, one a line, with the very characters before it that an answer has, so
        that its tokens are those of the answer and drafters that look them up in the
        prompt find them; or nowhere. "auto": lines if a label has a description, else
        inline.
    answer_prefix : str, default=""
        What is put in the model's mouth before the label, such as ``"Category:"``. As
        behind a plain template, the label follows after a space; after none behind
        white space, an opening bracket or an opening quotation mark, as in
        ``'{"label": "'``, and none in scripts that put no spaces between words.
    too_long : {"truncate", "error"}, default="truncate"
        What to do with a text that does not fit the model: cut the end of the *text*
        and report it, or refuse.
    template_arguments : mapping, default=None
        Variables of the model's chat template, such as ``{"thinking": False}``; values
        of types that JSON has. ``strftime_now``, a date as ISO 8601 writes it, is what
        templates that write today's date take for it. If none of ``enable_thinking``,
        ``thinking``, ``reasoning`` and ``reasoning_effort`` is given, thinking is
        turned off with them.

    Raises
    ------
    PromptError
        A placeholder is malformed, or nothing in the template depends on the row.

    Examples
    --------
    >>> PromptTemplate("{title}\n{text}\nTopic:", chat=False).fields
    ('title', 'text')
    """

    template: Annotated[
        str | None,
        Setting(
            "Prompt with {text}, {labels} or {column}; \\n is a line break.",
            optional(TEXT),
            metavar="TEXT",
        ),
    ] = None
    system: Annotated[
        str | None, Setting("System prompt.", optional(TEXT), metavar="TEXT")
    ] = None
    examples: Annotated[
        Sequence[tuple[str | Mapping[str, str], str]],
        Setting("", _EXAMPLES, read=_solved),
    ] = ()
    chat: Annotated[
        bool | Literal["auto"],
        Setting(
            "Use the model's chat template, or a plain prompt.",
            one_of(*_CHAT),
            default="chat if the model has a template",
            option="--chat/--no-chat",
        ),
    ] = "auto"
    options: Annotated[
        Options,
        Setting(
            f"How {{labels}} are listed: {listed(get_args(Options))}.",
            one_of(*get_args(Options)),
            metavar="HOW",
        ),
    ] = "auto"
    answer_prefix: Annotated[
        str,
        Setting(
            "Text before the label in the answer, such as 'Category:'.",
            TEXT,
            metavar="TEXT",
        ),
    ] = ""
    too_long: Annotated[
        Literal["truncate", "error"],
        Setting(
            "What to do with a text too long for the model: truncate or error.",
            one_of("truncate", "error"),
            metavar="WHAT",
        ),
    ] = "truncate"
    template_arguments: Annotated[
        Mapping[str, Any] | None,
        Setting(
            "Variable of the chat template, such as thinking=false. Can be repeated.",
            optional(_ARGUMENTS),
            metavar="KEY=VALUE",
            option="--template-argument",
        ),
    ] = None
    fields: tuple[str, ...] = field(init=False, repr=False, default=("text",))

    def __post_init__(self) -> None:
        check_settings(self, "PromptTemplate", PromptError)
        if self.template is not None:
            names = dict.fromkeys(
                part.name for part in parse(self.template) if isinstance(part, Field)
            )
            if "labels" in names and self.options == "none":
                raise PromptError(
                    "The template has the placeholder {labels}, but "
                    f"{parameter('options', 'none')} lists no labels: remove one of "
                    "the two."
                )
            names.pop("labels", None)
            if not names:
                raise PromptError(
                    f"The template {self.template!r} is the same for every text: put "
                    "{text}, or the name of a column in braces, where the text belongs."
                )
            object.__setattr__(self, "fields", tuple(names))
        self._check_arguments()
        for part in parse(self.system or ""):
            if isinstance(part, Field) and part.name != "labels":
                raise PromptError(
                    f"The system prompt has the placeholder {{{part.name}}}: only "
                    "{labels} is allowed there, since it is the same for every text."
                )

    def compile(
        self, tokenizer: Tokenizer, labels: LabelSet, *, reasons: bool = False
    ) -> "CompiledPrompt":
        """Join the recipe with a tokenizer and the labels.

        Parameters
        ----------
        tokenizer : Tokenizer
        labels : LabelSet
        reasons : bool, default=False
            Whether the model is to think first: the prompt ends where it begins to.

        Raises
        ------
        PromptError
            chat=True or template_arguments without a chat template, an example of an
            unknown label, a chat template that cannot render the roles or loses the
            text.
        """
        self.check_tokenizer(tokenizer)
        recipe = self.resolved(labels, has_chat_template=tokenizer.has_chat_template)
        recipe.check_tokenizer(tokenizer)
        listed = _list_options(labels, recipe)
        prompt = recipe._compile(tokenizer, labels, listed, reasons=reasons)
        if recipe.options != "verbatim":
            return prompt
        # What stands before an answer is known only now.
        words = [label.words[0] for label in labels]
        answered = prompt.answering() if reasons else prompt
        listed = "\n".join(answered.separator_before(word) + word for word in words)
        return recipe._compile(tokenizer, labels, listed, reasons=reasons)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raise PromptError where a chat template is needed and there is none."""
        if self.chat is True and not tokenizer.has_chat_template:
            raise PromptError(
                f"The tokenizer of {tokenizer.name!r} has no chat template, which "
                f"{parameter('chat', True)} needs: use {parameter('chat', False)}, or "
                "a chat model."
            )
        self._check_arguments()

    def _check_arguments(self) -> None:
        if self.template_arguments and self.chat is False:
            raise PromptError(
                f"{parameter('template_arguments')} needs a chat template, but this "
                "prompt is plain: leave it out, or use "
                f"{parameter('chat', True)} and a chat model."
            )

    def resolved(
        self, labels: LabelSet, *, has_chat_template: bool
    ) -> "PromptTemplate":
        r"""Return the recipe with the template, `chat` and `options` that it comes to.

        Examples
        --------
        >>> labels = LabelSet.parse(["billing", "shipping"])
        >>> recipe = PromptTemplate().resolved(labels, has_chat_template=False)
        >>> recipe.template, recipe.chat, recipe.options
        ('Categories: {labels}\n\nText: {text}\nCategory:', False, 'inline')
        """
        chat = has_chat_template if self.chat == "auto" else self.chat
        options = self.options
        if options == "auto":
            described = any(label.description for label in labels)
            options = "lines" if described else "inline"
        template = self.template
        if template is None:
            layout_of = "lines" if options == "verbatim" else options
            template = (_CHAT_TEMPLATES if chat else _PLAIN_TEMPLATES)[layout_of]
        return replace(self, template=template, chat=chat, options=options)

    def _compile(
        self, tokenizer: Tokenizer, labels: LabelSet, written: str, *, reasons: bool
    ) -> CompiledPrompt:
        """Join a resolved recipe with a tokenizer and the options as written."""
        layout = None
        if self.chat and reasons:
            layout = self._lay_out(lay_out_thought, tokenizer, labels, written)
        if layout is None and reasons:
            recipe = self
            for ending in _ENDINGS:
                template = (recipe.template or "").removesuffix(ending)
                recipe = replace(recipe, template=template)
            layout = recipe._lay_out(lay_out_in_words, tokenizer, labels, written)
        elif layout is None:
            lay_out = lay_out_chat if self.chat else lay_out_plain
            layout = self._lay_out(lay_out, tokenizer, labels, written)
        assert layout is not None, "prompts without a native thought have a layout"
        return CompiledPrompt(
            tokenizer=tokenizer,
            parts=tuple(merge(layout.parts)),
            is_chat=bool(self.chat),
            separator=layout.separator,
            slot=layout.slot,
            date=layout.date,
            too_long=self.too_long,
            thought=layout.thought,
        )

    def _lay_out(
        self,
        lay_out: Callable[..., Layout | None],
        tokenizer: Tokenizer,
        labels: LabelSet,
        written: str,
    ) -> Layout | None:
        template = self.template
        assert template is not None, "resolved"
        listed = Segment(written, is_data=True)
        body = [listed if part == Field("labels") else part for part in parse(template)]
        system = [
            listed if part == Field("labels") else part
            for part in parse(self.system or "")
        ]
        examples = [
            (
                fill(body, row if isinstance(row, Mapping) else {"text": row}),
                labels[name].words[0],
            )
            for row, name in self.examples
        ]
        arguments = (self.template_arguments or {}) if self.chat else None
        return lay_out(tokenizer, system, examples, body, self.answer_prefix, arguments)


def _list_options(labels: LabelSet, recipe: PromptTemplate) -> str:
    if recipe.options != "lines":
        return ", ".join(label.words[0] for label in labels)
    return "\n".join(
        f"- {label.words[0]}: {label.description}"
        if label.description
        else f"- {label.words[0]}"
        for label in labels
    )
