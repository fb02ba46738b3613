"""The ways to find the label log-probabilities of one text.

Each is a generator: it yields a request, receives the result, which the driver has
checked, and returns a `TextScore`; or it yields a list of requests, to be answered side
by side, and receives the list of their results. Strategies do not know which engine
answers, or what runs at the same time.
"""

import functools
from collections.abc import Callable, Generator, Hashable, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np

from classify.engines.answers import Request
from classify.errors import AnswerError
from classify.scoring.masses import average_masses
from classify.scoring.reasoning import Chain, Reasoning
from classify.scoring.text_score import TextScore
from classify.spec import Scoring
from classify.tracking import ReadRequest, TrackedGeneration, TrackedRequest, updated
from classify.verbalizer import ScorablePrompt

__all__ = ["Strategy", "exact", "generate", "make_strategy", "reason"]

Strategy: TypeAlias = Generator[Request | list[Request], Any, TextScore]
_Single: TypeAlias = Generator[Request, Any, TextScore]  # asks one thing at a time
Key = TypeVar("Key", bound=Hashable)

# Share of the mass from which on a node's chain is read with it. Measured with a 46M
# model on 77 intents: chains below lighter nodes are 5 to 45 % more reads for nothing.
_HEAVY = 0.05


def exact(prompt: ScorablePrompt, *, tolerance: float = 1e-3) -> _Single:
    """Read the trie best first until the mass of unread nodes is small.

    The walk ends when (mass of unread nodes) <= tolerance * (mass of resolved leaves).
    Each round asks for all nodes that must be read whatever the others turn out to be:
    the fewest heaviest ones that leave at most tolerance * (resolved + unread) behind,
    since no walk can resolve more than that sum. A heavy node with a single child is
    read together with the chain below it, which is sure to be needed; below a light one
    the mass is likely to be gone after a token.

    Where an engine lists only the most likely tokens, a node after a token that it
    leaves out counts with its estimate: a read there lowers bounds, and resolves
    nothing. A tolerance of 0 reads those too.

    Parameters
    ----------
    prompt : ScorablePrompt
    tolerance : float, default=1e-3
        0 reads every inner node: exact.

    Returns
    -------
    TextScore
    """
    tree, trie = prompt.trie.tree, prompt.trie
    if tolerance == 0.0:
        nodes = tuple(tree.inner_nodes.tolist())
        edges = yield ReadRequest(prompt.token_ids, tree, nodes)
        return TextScore.of(prompt, edges, n_rounds=1)
    nodes = trie.with_chain(0)
    edges = yield ReadRequest(prompt.token_ids, tree, nodes)
    n_rounds = 1
    while True:
        masses = trie.log_masses(edges)
        frontier = trie.frontier(masses)
        unread = np.exp(masses.estimate[frontier])
        resolved = float(np.exp(masses.lower[trie.known_leaves(masses)]).sum())
        left_behind = unread[::-1].cumsum()[::-1]  # entry i: all from the i-th on
        if not frontier.size or left_behind[0] <= tolerance * resolved:
            return TextScore.of(prompt, edges, n_rounds=n_rounds)
        most = resolved + left_behind[0]
        n_needed = max(1, int((left_behind > tolerance * most).sum()))
        n_heavy = int((unread[:n_needed] >= _HEAVY * most).sum())
        nodes = tuple(
            node
            for start in frontier[:n_heavy].tolist()
            for node in trie.with_chain(start)
        ) + tuple(frontier[n_heavy:n_needed].tolist())
        found = yield ReadRequest(prompt.token_ids, tree, nodes)
        edges = updated(edges, found)
        n_rounds += 1


def generate(prompt: ScorablePrompt) -> Strategy:
    """Generate one label greedily along the trie, tracking its tokens at every step.

    Only the nodes on the generated path are read. What left the path is known as an
    upper bound, and is reported as unresolved.

    Returns
    -------
    TextScore
    """
    tree = prompt.trie.tree
    generations: tuple[TrackedGeneration, ...] = yield TrackedRequest(
        prompt.token_ids,
        track_token_ids=np.unique(tree.tokens[1:]).tolist(),
        max_tokens=tree.max_depth,
        allowed=tree,
        stop_token_ids=(),
    )
    [generation] = generations
    tracked = generation.tracked_logprobs
    assert tracked is not None, "it was asked for"
    edges = np.full(tree.n_nodes, np.nan)
    node: int | None = 0
    for step, token in enumerate(generation.token_ids):
        if node is None or not tree.n_children[node]:
            break
        for child in tree.children(node):
            edges[child] = tracked[int(tree.tokens[child])][step]
        node = tree.child_by_token(node, token)
    else:
        if node is not None and not tree.n_children[node]:
            return TextScore.of(prompt, edges, n_rounds=1)
    raise AnswerError(
        f"The engine generated the tokens {list(generation.token_ids)}, which spell "
        "none of the labels, although only labels were allowed."
    )


def reason(
    prompt: ScorablePrompt, *, scoring: Scoring, track: bool = False
) -> Strategy:
    """Let the model think first, then read the labels where its answer begins.

    Each of `scoring.n_chains` thoughts is closed, by the model or when it has no more
    tokens, and `exact` reads the labels after it. Their probabilities are averaged.

    Parameters
    ----------
    prompt : ScorablePrompt
        With the end of thoughts.
    scoring : Scoring
    track : bool, default=False
        Track the tokens of the label words at every step of the thoughts.

    Returns
    -------
    TextScore
    """
    assert prompt.thought_end is not None, "compiled for this strategy"
    is_sampled = scoring.n_chains > 1
    tracked = np.unique(prompt.trie.tree.tokens[1:]).tolist() if track else None
    generations: tuple[TrackedGeneration, ...] = yield TrackedRequest(
        prompt.token_ids,
        track_token_ids=tracked,
        max_tokens=prompt.max_thought_tokens,
        temperature=float(scoring.chain_temperature) if is_sampled else 0.0,
        n=int(scoring.n_chains),
        seed=int(scoring.chain_seed) if is_sampled else None,
        stop_token_ids=prompt.thought_end.stop_token_ids,
    )
    thoughts = [prompt.thought_end.close(each) for each in generations]
    behind = [
        prompt.token_ids + each.token_ids + each.closing_token_ids for each in thoughts
    ]
    scores = yield from side_by_side(
        {
            slot: exact(
                prompt._replace(token_ids=slot), tolerance=float(scoring.tolerance)
            )
            for slot in dict.fromkeys(behind)  # equal thoughts are read once
        }
    )
    masses = [scores[slot].mass for slot in behind]
    chains = tuple(
        Chain.of(prompt, thought, mass.estimate, generation)
        for thought, mass, generation in zip(thoughts, masses, generations, strict=True)
    )
    read = list(scores.values())
    return TextScore(
        prompt,
        edges=read[0].edges,  # those behind the first thought
        mass=average_masses(masses),
        n_reads=sum(score.n_reads for score in read),
        n_rounds=1 + max(score.n_rounds for score in read),
        reasoning=Reasoning(chains, prompt.trie.labels.names),
        looks=tuple(scores[slot] for slot in behind),
    )


def side_by_side(
    strategies: Mapping[Key, _Single],
) -> Generator[list[Request], Any, dict[Key, TextScore]]:
    """Follow strategies in rounds, each of a request of all that have not ended."""
    scores: dict[Key, TextScore] = {}
    asked = {key: next(strategy) for key, strategy in strategies.items()}
    while asked:
        answers = yield [*asked.values()]
        for key, answer in zip(list(asked), answers, strict=True):
            try:
                asked[key] = strategies[key].send(answer)
            except StopIteration as finished:
                scores[key] = finished.value
                del asked[key]
    return scores


def averaged(
    prompt: ScorablePrompt, *, strategy: Callable[[ScorablePrompt], Strategy]
) -> Strategy:
    """Score every prompt about a text, and average, or chain, the probabilities.

    Those of the forms of one prompt are averaged as they are, those of the prompts of
    an ensemble as shares of the label mass, which may differ by magnitudes. A prompt
    with a shortlist chooses the labels that the next one lists.

    Returns
    -------
    TextScore
    """
    scores = []
    for each in (prompt, *prompt.others):
        score = yield from strategy(each)
        scores.append(score)
    if prompt.levels is not None:
        return TextScore.chained(scores, prompt)
    members = [TextScore.average(scores) if prompt.others else scores[0]]
    if prompt.shortlist is not None:
        chosen = members[0].most_likely(prompt.shortlist.size)
        listing = prompt.shortlist.listing(chosen)
        score = yield from averaged(listing, strategy=strategy)
        members = [TextScore.shortlisted(members[0], score)]
    for member in prompt.ensemble:
        score = yield from averaged(member, strategy=strategy)
        members.append(score)
    return TextScore.of_ensemble(members) if prompt.ensemble else members[0]


def make_strategy(
    scoring: Scoring, *, track: bool = False
) -> Callable[[ScorablePrompt], Strategy]:
    """Return the strategy of a spec, to be called with each prompt.

    With `track`, label tokens are tracked while the model thinks.
    """
    if scoring.strategy == "reason":
        return functools.partial(reason, scoring=scoring, track=track)
    strategy: Callable[[ScorablePrompt], Strategy] = generate
    if scoring.strategy == "exact":
        strategy = functools.partial(exact, tolerance=float(scoring.tolerance))
    return functools.partial(averaged, strategy=strategy)
