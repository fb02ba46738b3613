"""Keeps many texts in flight over one engine.

There are no waves: whatever a strategy asks next goes to the engine at once, beside
the first requests of texts that have just begun, so that a slow text holds nobody up.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from classify.engines.protocol import Engine
from classify.scoring.result import TextScore
from classify.scoring.strategies import Strategy
from classify.verbalizer import ScorablePrompt

__all__ = ["drive", "score_prompts"]


def drive(
    strategies: Iterable[Strategy], engine: Engine, *, window: int | None = None
) -> Iterator[tuple[int, TextScore]]:
    """Run strategies over an engine; yield their results as they come.

    Parameters
    ----------
    strategies : iterable of Strategy
        One for each text; taken from the iterable only as room appears.
    engine : Engine
    window : int or None, default=None
        How many texts to keep in flight. None: as many as the engine likes.

    Yields
    ------
    (int, TextScore)
        The position of the strategy in the iterable, and its result. The order is that
        of completion.
    """
    source = enumerate(strategies)
    room = engine.window if window is None else window
    waiting: dict[int, tuple[int, Strategy]] = {}
    exhausted = False
    while True:
        while not exhausted and len(waiting) < room:
            try:
                at, strategy = next(source)
            except StopIteration:
                exhausted = True
                break
            waiting[engine.submit(next(strategy))] = (at, strategy)
        if not waiting:
            return
        for ticket, result in engine.poll():
            if ticket not in waiting:
                continue  # of a run that was broken off; the engine is shared
            at, strategy = waiting.pop(ticket)
            try:
                request = strategy.send(result)
            except StopIteration as finished:
                yield at, finished.value
            else:
                waiting[engine.submit(request)] = (at, strategy)


def score_prompts(
    prompts: Sequence[ScorablePrompt],
    strategy: Callable[[ScorablePrompt], Strategy],
    engine: Engine,
    *,
    progress: Callable[[int], object] | None = None,
) -> list[TextScore]:
    """Score prompts with one strategy, in their order; equal prompts once.

    Parameters
    ----------
    prompts : sequence of ScorablePrompt, length n_texts
    strategy : callable
        Makes the strategy of a prompt.
    engine : Engine
    progress : callable, default=None
        Called with the number of texts finished since the last call.

    Returns
    -------
    list of TextScore, length n_texts
    """
    same: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for at, prompt in enumerate(prompts):
        same.setdefault((prompt.token_ids, id(prompt.trie)), []).append(at)
    members = list(same.values())
    scores: dict[int, TextScore] = {}
    for which, score in drive((strategy(prompts[m[0]]) for m in members), engine):
        for at in members[which]:
            # Texts with equal prompts can differ in whether they were cut to it.
            scores[at] = score.for_prompt(prompts[at])
        if progress is not None:
            progress(len(members[which]))
    return [scores[at] for at in range(len(prompts))]
