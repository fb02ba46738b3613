"""The recipe of a prompt, as people write it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from classify.errors import PromptError
from classify.labels import LabelSet
from classify.parameters import (
    TEXT,
    Setting,
    at_least,
    check_settings,
    listed,
    one_of,
    optional,
)
from classify.prompts.allowed import ARGUMENTS, EXAMPLES, solved_examples
from classify.prompts.compiled import CompiledPrompt
from classify.prompts.in_words import lay_out_in_words
from classify.prompts.layout import (
    Layout,
    lay_out_chat,
    lay_out_plain,
    lay_out_thought,
)
from classify.prompts.listing import check_listed, coded, list_options, orders
from classify.prompts.look import Look
from classify.prompts.parts import Field, fill, merge, parse, with_field
from classify.prompts.recipes import ENDINGS, Recipe, recipe_for
from classify.tokenizer import Segment, Tokenizer
from classify.wording import parameter

__all__ = ["PromptTemplate"]

Options = Literal["auto", "inline", "lines", "verbatim", "none"]
Answer = Literal["text", "code", "both"]

_CHAT: tuple[str | bool, ...] = (True, False, "auto")


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
    answer : {"text", "code", "both"}, default="text"
        What the model answers with. "text": the label's words. "code": the letter
        listed before each option (``A. billing``; two letters for more than 26 labels).
        A code stands for its label whatever the label's word is. "both": the average of
        the two probabilities, at twice the cost.
    n_orders : int, default=1
        Number of orders in which the options are listed, one prompt each; the
        probabilities are averaged. The declared order comes first. Models favour some
        positions in a list, and some letters even more. With a multiple of the number
        of labels, each label is in each position equally often.
    too_long : {"truncate", "error"}, default="truncate"
        What to do with a text that does not fit the model: cut the end of the *text*
        and report it, or refuse.
    template_arguments : mapping, default=None
        Variables of the model's chat template, such as ``{"thinking": False}``; values
        of types that JSON has. ``strftime_now``, a date as ISO 8601 writes it, is what
        templates that write today's date take for it. If none of ``enable_thinking``,
        ``thinking``, ``reasoning`` and ``reasoning_effort`` is given, thinking is
        turned off with them.
    asks : {"which", "whether"}, default="which"
        What is asked: which of the labels describes the text, or whether one label,
        ``{label}``, applies to it, with ``{labels}`` the words for yes and no. It may
        stand in `answer_prefix`. `ZeroShotMultiLabelClassifier` sets it.

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
        Setting("", EXAMPLES, read=solved_examples),
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
    answer: Annotated[
        Answer,
        Setting(
            "What the model answers with: text (the label's words), code (the letter "
            "listed before each option) or both (averaged).",
            one_of(*get_args(Answer)),
            metavar="WHAT",
        ),
    ] = "text"
    n_orders: Annotated[
        int,
        Setting(
            "Number of orders of the options; the answers are averaged.",
            at_least(1, whole=True),
            metavar="N",
        ),
    ] = 1
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
            optional(ARGUMENTS),
            metavar="KEY=VALUE",
            option="--template-argument",
        ),
    ] = None
    asks: Literal["which", "whether"] = "which"
    fields: tuple[str, ...] = field(init=False, repr=False, default=("text",))

    def __post_init__(self) -> None:
        check_settings(self, "PromptTemplate", PromptError)
        if self.template is None and self.asks == "whether":
            object.__setattr__(self, "fields", ("text", "label"))
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
            if self._label_in_answer:
                names["label"] = None
            if not names:
                raise PromptError(
                    f"The template {self.template!r} is the same for every text: put "
                    "{text}, or the name of a column in braces, where the text belongs."
                )
            object.__setattr__(self, "fields", tuple(names))
        self._check_arguments()
        shown = [*parse(self.template or "{labels}"), *parse(self.system or "")]
        check_listed(self, has_list=Field("labels") in shown)
        for part in parse(self.system or ""):
            if isinstance(part, Field) and part.name != "labels":
                raise PromptError(
                    f"The system prompt has the placeholder {{{part.name}}}: only "
                    "{labels} is allowed there, since it is the same for every text."
                )

    @property
    def _label_in_answer(self) -> bool:
        """Whether the label that is asked about is put in the model's mouth."""
        return self.asks == "whether" and "{label}" in self.answer_prefix

    @property
    def asks_repeatedly(self) -> bool:
        """Whether each text gets several prompts."""
        return self.answer == "both" or self.n_orders > 1

    @property
    def answer_settings(self) -> dict[str, Any]:
        """Those of `answer` and `n_orders` that are not the default."""
        usual = {"answer": "text", "n_orders": 1}
        given = {name: getattr(self, name) for name in usual}
        return {name: given[name] for name in usual if given[name] != usual[name]}

    def looks(self, labels: LabelSet) -> tuple[Look, ...]:
        """Return the prompts whose probabilities are averaged for each text.

        Raises
        ------
        PromptError
            There are fewer than `n_orders` orders, or a label has several words with
            ``answer="code"``.
        """
        if self.answer == "code":
            for label in labels:
                if len(label.words) > 1:
                    raise PromptError(
                        f"Label {label.name!r} has several words, but with "
                        f"{parameter('answer', 'code')} only its code is read: give it "
                        f"one word, or use {parameter('answer', 'text')}."
                    )
        forms: tuple[Any, ...] = (self.answer,)
        if self.answer == "both":
            forms = ("text", "code")
        return tuple(
            Look(
                replace(self, answer=form, n_orders=1),
                labels,
                order,
                coded(labels, order) if form == "code" else labels,
            )
            for order in orders(len(labels), self.n_orders)
            for form in forms
        )

    def compile(
        self,
        tokenizer: Tokenizer,
        labels: LabelSet,
        order: tuple[int, ...] | None = None,
        *,
        reasons: bool = False,
    ) -> "CompiledPrompt":
        """Join the recipe with a tokenizer and the labels.

        Parameters
        ----------
        tokenizer : Tokenizer
        labels : LabelSet
        order : tuple of int, length n_labels, default=None
            Which label is at each place of the list. None: the declared order.
        reasons : bool, default=False
            Whether the model thinks first; the prompt then ends where its thought
            begins.

        Raises
        ------
        PromptError
            chat=True or template_arguments without a chat template, an example of an
            unknown label, a chat template that cannot render the roles or loses the
            text.
        """
        self.check_tokenizer(tokenizer)
        recipe = self.resolved(
            labels, has_chat_template=tokenizer.has_chat_template, reasons=reasons
        )
        order = tuple(range(len(labels))) if order is None else order
        as_lines, as_codes = recipe.options == "lines", recipe.answer == "code"
        answers = coded(labels, order) if as_codes else labels
        in_order = [labels[at] for at in order]
        listed = list_options(in_order, as_lines=as_lines, as_codes=as_codes)
        prompt = recipe._compile(tokenizer, answers, listed, reasons=reasons)
        if recipe.options != "verbatim":
            return prompt
        # What stands before an answer is known only now.
        words = [label.words[0] for label in in_order]
        answered = prompt.answering() if reasons else prompt
        listed = "\n".join(answered.separator_before(word) + word for word in words)
        return recipe._compile(tokenizer, answers, listed, reasons=reasons)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raise PromptError where a chat template is needed and there is none."""
        if self.chat is True and not tokenizer.has_chat_template:
            raise PromptError(
                f"The tokenizer of {tokenizer.name!r} has no chat template, which "
                f"{parameter('chat', True)} needs: use {parameter('chat', False)}, or "
                "a chat model."
            )

    def _check_arguments(self) -> None:
        if self.template_arguments and self.chat is False:
            raise PromptError(
                f"{parameter('template_arguments')} needs a chat template, but this "
                "prompt is plain: leave it out, or use "
                f"{parameter('chat', True)} and a chat model."
            )

    def resolved(
        self, labels: LabelSet, *, has_chat_template: bool, reasons: bool = False
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
            is_long = described or self.answer == "code"
            options = "lines" if is_long and self.asks == "which" else "inline"
        own = Recipe(self.template or "", self.answer_prefix)
        if self.template is None:
            own = recipe_for(
                self,
                is_chat=bool(chat),
                options=options,
                n_labels=len(labels),
                reasons=reasons,
            )
        return replace(self, **own._asdict(), chat=chat, options=options)

    def _compile(
        self, tokenizer: Tokenizer, labels: LabelSet, written: str, *, reasons: bool
    ) -> CompiledPrompt:
        """Join a resolved recipe with a tokenizer and the options as written."""
        if reasons and self._label_in_answer:
            raise PromptError(
                f"{parameter('answer_prefix', self.answer_prefix)} has the label, but "
                f"with {parameter('strategy', 'reason')} the model must know it before "
                "it thinks: put {label} into the template."
            )
        layout = None
        if self.chat and reasons:
            layout = self._lay_out(lay_out_thought, tokenizer, labels, written)
        if layout is None and reasons:
            template = self.template or ""
            for ending in ENDINGS:
                template = template.removesuffix(ending)
            recipe = replace(self, template=template)
            layout = recipe._lay_out(lay_out_in_words, tokenizer, labels, written)
        elif layout is None:
            lay_out = lay_out_chat if self.chat else lay_out_plain
            layout = self._lay_out(lay_out, tokenizer, labels, written)
        assert layout is not None, "prompts without a native thought have a layout"
        return self.joined(tokenizer, layout)

    def joined(self, tokenizer: Tokenizer, layout: Layout) -> CompiledPrompt:
        """Return the prompt of a resolved recipe that was laid out."""
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
        laid = lay_out(tokenizer, system, examples, body, self.answer_prefix, arguments)
        if laid is None or not self._label_in_answer:
            return laid
        return laid._replace(parts=with_field(laid.parts, "label"))
