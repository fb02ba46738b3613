"""The recipe of a prompt, as people write it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from classify.errors import PromptError
from classify.labels import LabelSet
from classify.parameters import (
    TEXT,
    Allowed,
    Setting,
    at_least,
    check_settings,
    listed,
    one_of,
    optional,
    settings_of,
)
from classify.prompts.allowed import (
    ARGUMENTS,
    EXAMPLES,
    check_recipe,
    fields_of,
    solved_examples,
)
from classify.prompts.compiled import CompiledPrompt
from classify.prompts.compiling import Resolved, check_tokenizer, compile_resolved
from classify.prompts.example_table import Example, ExampleTable, is_table
from classify.prompts.recipes import Options, options_for, recipe_for
from classify.prompts.refusals import not_chosen
from classify.tokenizer import Tokenizer

__all__ = ["PromptTemplate"]

Answer = Literal["text", "code", "both"]
ExampleChoice = Literal["balanced", "random", "nearest"]


def _read_prompts(written: Any) -> "tuple[PromptTemplate, ...]":
    """Return the prompts of a task file; raise TypeError or ValueError if invalid."""
    reads = {
        name: setting.read
        for name, setting in settings_of(PromptTemplate).items()
        if setting.read is not None
    }
    return tuple(
        PromptTemplate(
            **{
                name: reads[name](value) if name in reads else value
                for name, value in dict(each).items()
            }
        )
        for each in written
    )


_PROMPTS = Allowed(
    "a sequence of PromptTemplate",
    lambda value: (
        isinstance(value, list | tuple)
        and all(isinstance(each, PromptTemplate) for each in value)
    ),
    "a list of prompts, each a mapping with the keys of prompt",
)


@dataclass(frozen=True)
class PromptTemplate:
    r"""The recipe of a prompt.

    Parameters
    ----------
    template : str or None, default=None
        The user's message (chat) or the whole prompt (plain), with placeholders:
        ``{text}``, ``{labels}`` (the options), and the name of any other column of the
        data. ``{{`` and ``}}`` stand for braces. None: the default template for
        `options`. "auto" is the prompt that suits the model best, chosen by measurement
        as `classify.tune_prompt` does: when a classifier is fitted, or on the first
        texts of a file on the command line.
    system : str or None, default=None
        System prompt; may hold ``{labels}``. A plain prompt begins with it.
    examples : sequence of (text, label), str, Path or DataFrame, default=()
        Solved examples, shown before the text: as turns of the chat, or as repeats of
        the plain prompt. Instead of the text, a mapping of columns is allowed. A table
        with labels, or the path of its file: some of its rows are shown, never the
        text itself; rows without a label are left out.
    n_examples : int, default=8
        Maximum number of examples from a table.
    example_choice : {"balanced", "random", "nearest"}, default="balanced"
        Which examples of a table: drawn at random, as many of each label; drawn at
        random; or those most like the text (TF-IDF), the nearest last. Drawn examples
        are the same for all texts, so their prompts start alike.
    example_seed : int, default=0
        Seed of the draw.
    max_example_tokens : int, default=1024
        Maximum tokens of the examples of a text, with their labels: examples that do
        not fit are passed over. So are examples that leave no room in the model's
        context for the whole text.
    example_text_column : str, default="text"
        The table's column with texts.
    example_label_column : str, default="label"
        The table's column with labels.
    chat : bool or "auto", default="auto"
        Whether to use the tokenizer's chat template. "auto": if it has one.
    options : {"auto", "inline", "lines", "verbatim", "none"}, default="auto"
        How ``{labels}`` is written: ``a, b, c``; or ``- a: description``, one a line;
        or ``a``, one a line, with the very characters before it that an answer has, so
        that its tokens are those of the answer and drafters that look them up in the
        prompt find them; or nowhere. "auto": lines if a label has a description, else
        inline.
    text_position : {"auto", "first", "last"}, default="auto"
        Place of the text in the default template. "first": before the labels, so that
        questions about a text share its computation. "auto": first for a task's
        `questions`, else last.
    answer_prefix : str, default=""
        Text at the start of the model's answer, before the label, such as
        ``"Category:"``. As after a plain template, a space separates it from the label;
        none after white space, an opening bracket or an opening quotation mark, as in
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
    shortlist : int, default=None
        With more labels than this, list only this many: those that are most likely
        after a default prompt without a list. The probability that it gives the others
        is reported as unresolved.
    too_long : {"truncate", "error"}, default="truncate"
        What to do with a text that does not fit the model: cut the end of the *text*
        and report it, or refuse.
    template_arguments : mapping, default=None
        Variables of the model's chat template, such as ``{"thinking": False}``; values
        of types that JSON has. ``strftime_now``, a date as ISO 8601 writes it, is what
        templates that write today's date take for it. If no switch for thinking is
        given (``enable_thinking``, ``thinking``, ``reasoning``, ``reasoning_effort``,
        or one that the template itself has under such a name), it is turned off.
    asks : {"which", "whether"}, default="which"
        What is asked: which of the labels describes the text, or whether one label,
        ``{label}``, applies to it, with ``{labels}`` the words for yes and no. It may
        stand in `answer_prefix`. `ZeroShotMultiLabelClassifier` sets it.
    ensemble : sequence of PromptTemplate, default=()
        Further prompts about each text, which show the same columns: the probabilities
        that all prompts give the labels are averaged.

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
            "Prompt with {text}, {labels} or {column}; \\n is a line break. auto: "
            "chosen by comparing prompts on the first texts.",
            optional(TEXT),
            metavar="TEXT",
        ),
    ] = None
    system: Annotated[
        str | None, Setting("System prompt.", optional(TEXT), metavar="TEXT")
    ] = None
    examples: Annotated[
        Any,
        Setting(
            "Labelled table; some of its rows are shown as few-shot examples.",
            EXAMPLES,
            metavar="FILE",
            read=solved_examples,
        ),
    ] = ()
    n_examples: Annotated[
        int,
        Setting("Maximum number of examples.", at_least(1, whole=True), metavar="N"),
    ] = 8
    example_choice: Annotated[
        ExampleChoice,
        Setting(
            "Which examples: balanced (over the labels), random, or nearest (to each "
            "text, by TF-IDF).",
            one_of(*get_args(ExampleChoice)),
        ),
    ] = "balanced"
    example_seed: Annotated[
        int,
        Setting(
            "Seed for drawing examples.",
            at_least(0, whole=True),
            metavar="N",
        ),
    ] = 0
    max_example_tokens: Annotated[
        int,
        Setting(
            "Maximum length of a text's examples together, in tokens.",
            at_least(1, whole=True),
            metavar="N",
        ),
    ] = 1024
    example_text_column: Annotated[
        str, Setting("Column with the texts of examples.", TEXT, metavar="COLUMN")
    ] = "text"
    example_label_column: Annotated[
        str, Setting("Column with the labels of examples.", TEXT, metavar="COLUMN")
    ] = "label"
    chat: Annotated[
        bool | Literal["auto"],
        Setting(
            "Use the model's chat template, or a plain prompt.",
            one_of(*(True, False, "auto")),
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
    text_position: Annotated[
        Literal["auto", "first", "last"],
        Setting(
            "Text position in the default template: first (before the labels) or last.",
            one_of("auto", "first", "last"),
            default="first for a task's questions, else last",
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
    shortlist: Annotated[
        int | None,
        Setting(
            "List only the N labels that are most likely after a prompt with no list.",
            optional(at_least(2, whole=True)),
            metavar="N",
        ),
    ] = None
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
    ensemble: Annotated[
        Sequence["PromptTemplate"], Setting("", _PROMPTS, read=_read_prompts)
    ] = ()
    fields: tuple[str, ...] = field(init=False, repr=False, default=("text",))

    @classmethod
    def of(cls, given: "PromptTemplate | str | None") -> "PromptTemplate":
        """Return a recipe as it is; a string is its template."""
        return given if isinstance(given, PromptTemplate) else cls(given)

    def __post_init__(self) -> None:
        if is_table(self.examples):
            table = ExampleTable.of(self.examples)
            object.__setattr__(self, "examples", table)
        check_settings(self, "PromptTemplate", PromptError)
        object.__setattr__(self, "fields", fields_of(self))
        check_recipe(self)

    @property
    def label_in_answer(self) -> bool:
        """Whether the label that is asked about is part of the answer prefix."""
        return self.asks == "whether" and "{label}" in self.answer_prefix

    @property
    def is_auto(self) -> bool:
        """Whether the template has yet to be chosen."""
        return self.template == "auto"

    def without_auto(self) -> "PromptTemplate":
        """Return the same with the default template, if none has been chosen yet."""
        return replace(self, template=None) if self.is_auto else self

    @property
    def chooses_examples(self) -> bool:
        """Whether the examples are chosen from a table."""
        return isinstance(self.examples, ExampleTable)

    @property
    def listed_examples(self) -> Sequence[tuple[str | Mapping[str, str], str]]:
        """The examples if all are shown; none with a table."""
        return () if isinstance(self.examples, ExampleTable) else self.examples

    @property
    def table_examples(self) -> tuple[Example, ...]:
        """Those that are chosen from; none without a table."""
        if not isinstance(self.examples, ExampleTable):
            return ()
        return self.examples.examples(
            self.fields, self.example_text_column, self.example_label_column
        )

    def compile(
        self,
        tokenizer: Tokenizer,
        labels: LabelSet,
        order: tuple[int, ...] | None = None,
        *,
        reasons: bool = False,
        n_examples: int | None = None,
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
        n_examples : int, default=None
            Places for examples of a table. None: as many as are shown at most.

        Raises
        ------
        PromptError
            chat=True or template_arguments without a chat template, an example of an
            unknown label, a chat template that cannot render the roles or loses the
            text.
        """
        check_tokenizer(tokenizer, chat=self.chat)
        found = self.resolved(labels, has_chat_template=tokenizer.has_chat_template)
        n_places = self.n_examples if n_examples is None else n_examples
        return compile_resolved(
            Resolved(
                template=found.template or "",
                system=self.system or "",
                examples=n_places if self.chooses_examples else self.listed_examples,
                is_chat=bool(found.chat),
                options=found.options,
                answer=self.answer,
                answer_prefix=self.answer_prefix,
                label_in_answer=self.label_in_answer,
                arguments=self.template_arguments or {},
                too_long=self.too_long,
            ),
            tokenizer,
            labels,
            tuple(range(len(labels))) if order is None else order,
            reasons=reasons,
        )

    def resolved(
        self, labels: LabelSet, *, has_chat_template: bool
    ) -> "PromptTemplate":
        r"""Return the recipe with its final template, `chat` and `options`.

        Examples
        --------
        >>> labels = LabelSet.parse(["billing", "shipping"])
        >>> recipe = PromptTemplate().resolved(labels, has_chat_template=False)
        >>> recipe.template, recipe.chat, recipe.options
        ('Categories: {labels}\n\nText: {text}\nCategory:', False, 'inline')
        """
        if self.is_auto:
            raise not_chosen()
        chat = has_chat_template if self.chat == "auto" else self.chat
        options = options_for(self, labels)
        template = self.template or recipe_for(
            self, is_chat=bool(chat), options=options, n_labels=len(labels)
        )
        return replace(
            self, template=template, chat=chat, options=options, text_position="auto"
        )
