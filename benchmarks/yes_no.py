"""What twenty yes/no questions about a text cost against one, in processor time.

    python benchmarks/yes_no.py --model FOLDER

Every text has 200 tokens and a beginning of its own. Times are of this process: the
best of several rounds, with the ways interleaved.
"""

import argparse
import time

from classify import (
    PromptTemplate,
    ZeroShotClassifier,
    ZeroShotMultiLabelClassifier,
)

LABELS = [
    *("billing", "shipping", "refund request", "complaint", "praise", "invoice"),
    *("technical problem", "account access", "delivery delay", "damaged goods"),
    *("wrong item", "cancellation", "warranty", "price", "discount code", "spam"),
    *("urgent", "legal threat", "data privacy", "opening hours"),
]
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
    tokenizer = multi.scorer().pairs.model.load_tokenizer()
    question = multi.scorer().scorers()[0]

    def texts_of(turn: int) -> list[str]:
        """Return texts that no earlier turn had, since the engine may cache those."""
        texts = []
        for at in range(options.texts):
            whole = f"Order {turn * options.texts + at}. " + SENTENCE * options.tokens
            texts.append(
                tokenizer.decode(tokenizer.encode_text(whole)[: options.tokens])
            )
        return texts

    ways = {
        "one yes/no question": lambda texts: question.score(
            [{"text": text} for text in texts]
        ),
        f"{len(LABELS)} yes/no questions": multi.predict_proba,
        "the same, labels in answers": in_answers.predict_proba,
        f"one choice of {len(LABELS)} labels": choice.predict_proba,
    }
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(options.rounds + 1):  # the first one warms up
        for way, (name, run) in enumerate(ways.items()):
            texts = texts_of(turn * len(ways) + way)
            start = time.process_time()
            run(texts)
            best[name] = min(best[name], time.process_time() - start)
    first, *_ = best.values()
    for name, seconds in best.items():
        each = 1000 * seconds / options.texts
        print(f"{name:28} {each:8.1f} ms a text, {seconds / first:5.2f} x")


if __name__ == "__main__":
    main()
