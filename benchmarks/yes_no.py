"""What several questions about a text cost against one, in processor time.

Twenty with yes and no for an answer, and four that choose among labels.

    python benchmarks/yes_no.py --model FOLDER

Every text has 200 tokens and a beginning of its own. Times are of this process: the
best of several rounds, with the ways interleaved, in turn forwards and backwards.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from classify import (
    PromptTemplate,
    ZeroShotClassifier,
    ZeroShotMultiLabelClassifier,
)
from classify.estimators.asked import asked_question
from classify.estimators.asking import ask

LABELS = [
    *("billing", "shipping", "refund request", "complaint", "praise", "invoice"),
    *("technical problem", "account access", "delivery delay", "damaged goods"),
    *("wrong item", "cancellation", "warranty", "price", "discount code", "spam"),
    *("urgent", "legal threat", "data privacy", "opening hours"),
]
CHOICES = {
    "topic": ["billing", "shipping", "technical problem", "account access", "refund"],
    "tone": ["calm", "angry"],
    "urgency": ["low", "normal", "urgent"],
    "language": ["English", "German", "French"],
}
SENTENCE = (
    "I ordered a lamp two weeks ago and it still has not arrived, although the shop "
    "said that it would be here in three days. "
)


def main() -> None:
    """Print the time of each way, and its ratio to one yes/no question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    multi = ZeroShotMultiLabelClassifier(LABELS, options.model, engine="transformers")
    engine = multi.load_engine()
    multi.set_params(engine=engine)
    # Behind the label there is then no end of a turn, which each label would add.
    prompt = PromptTemplate(
        "Text: {text}\n\nSay of each label whether it applies to the text: {labels}.",
        answer_prefix="{label}:",
    )
    in_answers = ZeroShotMultiLabelClassifier(
        LABELS, options.model, engine=engine, prompt=prompt
    )
    choice = ZeroShotClassifier(LABELS, options.model, engine=engine)
    tokenizer = multi.scorer().model.load_tokenizer()
    question = multi.scorer().each()[0]

    def texts_of(turn: int) -> list[str]:
        """Return texts that no earlier turn had, since the engine may cache those."""
        texts = []
        for at in range(options.texts):
            whole = f"Order {turn * options.texts + at}. " + SENTENCE * options.tokens
            texts.append(
                tokenizer.decode(tokenizer.encode_text(whole)[: options.tokens])
            )
        return texts

    def choosing(*names: str, text_position: Any) -> Callable[[list[str]], object]:
        """Return what asks these questions about texts, side by side."""
        asked = [
            asked_question(
                ZeroShotClassifier(
                    CHOICES[name],
                    options.model,
                    engine=engine,
                    prompt=PromptTemplate(text_position=text_position),
                ),
                name,
            )
            for name in names
        ]
        return lambda texts: ask(
            asked, [[{"text": text} for text in texts]] * len(asked)
        )

    ways = {
        "one yes/no question": lambda texts: question.score(
            [{"text": text} for text in texts]
        ),
        f"{len(LABELS)} yes/no questions": multi.predict_proba,
        "the same, labels in answers": in_answers.predict_proba,
        f"one choice of {len(LABELS)} labels": choice.predict_proba,
        "one choice, text first": choosing("topic", text_position="first"),
        "four choices, text first": choosing(*CHOICES, text_position="first"),
        "four choices, text last": choosing(*CHOICES, text_position="last"),
    }
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(options.rounds + 1):  # the first one warms up
        order = list(enumerate(ways.items()))
        for way, (name, run) in order if turn % 2 else reversed(order):
            texts = texts_of(turn * len(ways) + way)
            start = time.process_time()
            run(texts)
            best[name] = min(best[name], time.process_time() - start)
    for name, seconds in best.items():
        kind = (
            "one yes/no question" if "choice" not in name else "one choice, text first"
        )
        each = 1000 * seconds / options.texts
        print(f"{name:28} {each:8.1f} ms a text, {seconds / best[kind]:5.2f} x")


if __name__ == "__main__":
    main()
