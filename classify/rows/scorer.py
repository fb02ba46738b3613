"""The scorer: a model, what it is asked about rows, and how its answers are read.

A choice asks once about a row, and a question to which any number of labels are the
answer once for each label, whether it applies. An ensemble, several forms of an answer
and a thought belong to one such prompt.
"""

import asyncio
import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from classify.calibration import PROBE_METHODS, fingerprint_of
from classify.demo import located
from classify.engines import generate
from classify.engines.protocol import with_defaults
from classify.errors import AnswerError, ConfigError, DataError, InputError, RowError
from classify.labels import Label, LabelSet
from classify.prompts.few_shot import check_examples
from classify.prompts.probes import (
    content_free_texts,
    domain_texts,
    premise_texts,
    probe_rows,
)
from classify.prompts.shortlist import refuse_shortlist, shortlist_of
from classify.questions.yes_no import LABEL, asked
from classify.rows.encoding import Row, candidate_sets, columns_of
from classify.rows.prompted_model import Progress, PromptedModel, Refuse
from classify.rows.side_by_side import (
    Encoded,
    ScoredRows,
    ascore_encoded,
    interleaved,
    score_encoded,
)
from classify.scoring import LabelLogprobs, Strategy, make_strategy
from classify.spec import Scoring
from classify.tracking import TrackedRequest
from classify.verbalizer import ScorablePrompt
from classify.wording import parameter

__all__ = ["ScoredRows", "Scorer", "text_error"]

# Tokens that are shown, and those of each text that their means are computed from.
_N_LIKELIEST, _N_TOP = 5, 20


@dataclass(frozen=True)
class Scorer:
    """Scores rows. Two that are equal give a row the same scores.

    Attributes
    ----------
    model : PromptedModel
    declared : LabelSet or None
        The labels; None where each row must bring its own.
    scoring : Scoring
    about : tuple of Label, default=()
        Labels about each of which rows are asked: its text is in the prompt's column
        ``label``, and `declared` are the answers. So a label's probability depends on
        no other. Without any, rows are asked once.
    question : str, default=""
        The name of what is asked, if it has one.
    """

    model: PromptedModel
    declared: LabelSet | None
    scoring: Scoring
    about: tuple[Label, ...] = ()
    question: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.declared is not None:
            check_examples(self.model.template, self.declared)
        if self.scoring.strategy == "generate":
            refuse_shortlist(
                self.model.template,
                f"{parameter('strategy', 'generate')}, which reads one of them: use "
                f"{parameter('strategy', 'exact')}.",
            )

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that the prompt needs of a row."""
        own = (LABEL,) if self.about else ()
        return tuple(name for name in self.model.template.fields if name not in own)

    @property
    def names(self) -> list[str]:
        """The labels that rows are asked about, in the order of scores: sorted."""
        return sorted(label.name for label in self.about)

    @property
    def gives_bounds(self) -> bool:
        """Whether more than the tolerance may stay unknown; nothing is loaded."""
        return (
            self.scoring.strategy == "generate"
            or self.model.spec.may_list
            or shortlist_of(self.model.template) is not None
        )

    @property
    def asks_repeatedly(self) -> bool:
        """Whether several prompts are averaged, which may not agree."""
        template = self.model.template
        return (
            template.answer == "both"
            or template.n_orders > 1
            or bool(template.ensemble)
        )

    def each(self) -> "tuple[Scorer, ...]":
        """Return what asks rows once: this, or one for each label that it is about."""
        labels = sorted(self.about, key=lambda label: label.name)
        return tuple(replace(self, about=(label,)) for label in labels) or (self,)

    def score(
        self,
        rows: Sequence[Row | InputError],
        listed: Sequence[Sequence[str] | InputError] | None = None,
        *,
        refuse: Refuse | None = None,
        progress: Progress | None = None,
        return_steps: bool = False,
        track: bool = False,
    ) -> ScoredRows:
        """Score rows, each with the labels that it may get.

        Parameters
        ----------
        rows : sequence of mapping or InputError
            A row, or what is wrong with it.
        listed : sequence of sequences of str or InputError, or None
            The candidates of each row. None: all labels.
        refuse : callable, default=None
            Makes the exception that a row with an error raises, of its position and its
            error. None: such rows are set aside.
        progress : callable, default=None
            Called with the number of rows finished since the last call.
        return_steps : bool, default=False
            Keep the per-step values that were read.
        track : bool, default=False
            Track label tokens while the model thinks.

        Returns
        -------
        ScoredRows
            Of rows that are asked about several labels, as `interleaved` has them.
        """
        candidates = candidate_sets(listed, self.declared)
        scored = score_encoded(
            [each.encoded(rows, candidates, track=track) for each in self.each()],
            refuse=refuse,
            progress=progress,
            return_steps=return_steps,
            track=track,
        )
        return self.together(len(rows), scored, refuse=refuse)

    def together(
        self,
        n_rows: int,
        scored: Sequence[ScoredRows],
        *,
        refuse: Refuse | None = None,
    ) -> ScoredRows:
        """Return what the scorers of `each` found about rows, as `score` does."""
        if self.about:
            return interleaved(n_rows, scored, self.names, refuse=refuse)
        return scored[0]

    async def ascore(
        self,
        rows: Sequence[Row | InputError],
        listed: Sequence[Sequence[str] | InputError] | None = None,
        *,
        refuse: Refuse | None = None,
    ) -> ScoredRows:
        """Await `score`, batched with the rows of other callers, without blocking."""
        candidates = candidate_sets(listed, self.declared)
        encoded = await asyncio.to_thread(
            lambda: [each.encoded(rows, candidates) for each in self.each()]
        )
        scored = await ascore_encoded(encoded, refuse=refuse)
        return self.together(len(rows), scored, refuse=refuse)

    def encoded(
        self,
        rows: Sequence[Row | InputError],
        candidates: Sequence[LabelSet | InputError] | None = None,
        *,
        track: bool = False,
    ) -> Encoded:
        """Return rows as they are scored, next to others; see `encode`."""
        return Encoded(
            self.model,
            self.scoring,
            self.encode(rows, candidates, track=track),
            columns_of(candidates, self.declared),
            self.question,
        )

    def encode(
        self,
        rows: Sequence[Row | InputError],
        candidates: Sequence[LabelSet | InputError] | None = None,
        *,
        track: bool = False,
    ) -> list[ScorablePrompt | InputError]:
        """Encode rows that are asked once; what cannot be asked is an error.

        Parameters
        ----------
        rows : sequence of mapping or InputError, length n_texts
        candidates : sequence of LabelSet or InputError, length n_texts, or None
            The labels that each text may get; None: all.
        track : bool, default=False
            Whether label tokens will be tracked while the model thinks.
        """
        if candidates is None:
            labels = self.known_labels()
            # Checked even where there is no row, and before the model is loaded.
            self.model.space(labels)
            candidates = [labels] * len(rows)
        if fixed := self.fixed:
            rows = [
                {**row, **fixed} if isinstance(row, Mapping) else row for row in rows
            ]
        encoded = self.model.encode(rows, candidates)
        if not all(isinstance(each, InputError) for each in encoded):
            self._check_strategy(track=track)
        return encoded

    def _check_strategy(self, *, track: bool = False) -> None:
        """Raise ConfigError for a strategy that the engine cannot follow."""
        scoring = self.scoring
        if scoring.strategy == "generate":
            what = parameter("strategy", scoring.strategy)
        elif scoring.n_chains > 1:
            what = parameter("n_chains", scoring.n_chains)
        elif track and scoring.strategy == "reason":
            what = parameter("return_steps", True)
        else:
            return
        if with_defaults(self.model.load_engine()).lists_only:
            raise ConfigError(
                f"{what} needs an engine that shows the log-probability of every "
                "token, but this one lists only the most likely ones: use "
                f"{parameter('strategy', 'exact')}, which gives bounds."
            )

    def read_strategy(self) -> Callable[[ScorablePrompt], Strategy]:
        """Return the factory of a prompt's strategy."""
        return make_strategy(self.scoring)

    def score_probes(
        self, method: str, rows: Sequence[Row | InputError]
    ) -> LabelLogprobs | None:
        """Return the scores of the texts that a calibration method asks about, once.

        Parameters
        ----------
        method : str
            One of `classify.calibration.METHODS`.
        rows : sequence of mapping or InputError
            Rows of the domain, of whose words "domain" makes probes.

        Returns
        -------
        LabelLogprobs or None
            None if the method needs none.
        """
        texts = [" ".join(row.values()) for row in rows if isinstance(row, Mapping)]
        probes = _probe_texts(method, texts)
        if not probes:
            return None
        refuse_shortlist(
            self.model.template,
            f"{parameter('method', method)}, whose texts would get other lists than "
            f"yours: use a method that takes your texts, such as "
            f"{parameter('method', 'prior_matching')}.",
        )
        [(scores, _)] = score_encoded(
            [self.encoded(probe_rows(probes, self.fields))],
            refuse=lambda at, error: type(error)(f"Probe {probes[at]!r}: {error}"),
        )
        return scores

    def likeliest_tokens(
        self,
        rows: Sequence[Row | InputError],
        candidates: Sequence[LabelSet | InputError] | None = None,
    ) -> list[tuple[str, float]]:
        """Return the tokens that an answer would most probably begin with.

        Returns
        -------
        list of (str, float)
            Their text and mean probability over the rows, most likely first; a row that
            cannot be asked is left out.
        """
        encoded = self.encode(rows, candidates)
        prompts = [each for each in encoded if isinstance(each, ScorablePrompt)]
        engine = self.model.load_engine()
        n_top = min(_N_TOP, engine.vocab_size)
        requests = [
            TrackedRequest(prompt.token_ids, top_logprobs=n_top) for prompt in prompts
        ]
        mean: dict[int, float] = {}
        for [answer] in generate(engine, requests):
            for token_id, logprob in answer.top_logprobs[0].items():
                share = math.exp(logprob) / len(prompts)
                mean[token_id] = mean.get(token_id, 0.0) + share
        likeliest = sorted(mean, key=lambda each: -mean[each])[:_N_LIKELIEST]
        pieces = self.model.load_tokenizer().pieces(likeliest)
        return [(piece, mean[at]) for piece, at in zip(pieces, likeliest, strict=True)]

    @property
    def fixed(self) -> dict[str, str]:
        """The columns of a prompt that are not the row's, where rows are asked once."""
        if not self.about:
            return {}
        [label] = self.about
        return {LABEL: asked(label)}

    def fingerprint(self) -> dict[str, str]:
        """Return what the scores depend on; see `fingerprint_of`.

        Where each row brings its own labels, others stand for them in the prompt. Loads
        the tokenizer only.
        """
        labels = {f"label {each.name}": asked(each) for each in self.about}
        return self._prompt_fingerprint() | labels

    def fingerprints(self) -> dict[str, dict[str, str]]:
        """Return what the scores of each label depend on that rows are asked about."""
        shared = self._prompt_fingerprint()  # to digest a model takes a moment
        scorers = zip(self.names, self.each(), strict=True)
        return {name: shared | each.fixed for name, each in scorers}

    def _prompt_fingerprint(self) -> dict[str, str]:
        model, spec = self.model, self.model.spec
        any_labels = self.declared is None
        labels = self._stand_ins() if any_labels else self.known_labels()
        model.check_files()
        fingerprint = fingerprint_of(
            model=located(spec.model),
            template=model.template,
            verbalizer=model.verbalizer,
            tokenizer=model.space(labels).prompt.tokenizer,
            labels=labels,
            strategy=self.scoring.strategy,
            tolerance=self.scoring.tolerance,
            reasoning=self.scoring.reasoning,
            revision=spec.revision,
            engine_options=spec.engine_options,
        )
        return fingerprint | ({"labels": "each row's own"} if any_labels else {})

    def _stand_ins(self) -> LabelSet:
        """Return some labels, of which there are enough orders."""
        template = self.model.template
        prompts = (template, *template.ensemble)
        n_orders = max(each.n_orders for each in prompts)
        n_labels = next(n for n in range(2, 27) if math.factorial(n) >= n_orders)
        names = dict.fromkeys(string.ascii_lowercase[:n_labels])
        for each in prompts:
            # The labels of examples are needed too.
            shown = (*each.listed_examples, *each.table_examples)
            names |= dict.fromkeys(label for _, label in shown)
        return LabelSet.parse([*names])

    def known_labels(self) -> LabelSet:
        """Return the labels, or raise AttributeError where rows bring their own."""
        if self.declared is None:
            raise AttributeError(
                "This ZeroShotClassifier has no labels: give `labels=[…]`, or call fit."
            )
        return self.declared


def text_error(at: int, error: RowError) -> RowError:
    """Return the error of one text among many, for `Scorer.score`."""
    hint = ""
    if isinstance(error, DataError | AnswerError):
        hint = (
            " Leave it out, or use classify_frame(…, on_error='set_aside'), which "
            "continues with the others."
        )
    return type(error)(f"Text {at}: {error}{hint}")


def _probe_texts(method: str, texts: list[str]) -> tuple[str, ...]:
    """Return the texts that a method asks about; none if it needs none."""
    if method not in PROBE_METHODS:
        return ()
    if method == "domain":
        return domain_texts(texts)
    return content_free_texts() if method == "content_free" else premise_texts()
