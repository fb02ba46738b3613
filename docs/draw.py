"""The pictures of the pages and of README: `python docs/draw.py` writes docs/images/.

Every number in them is computed by the demo model when this runs.
"""

from html import escape
from pathlib import Path

import numpy as np

from classify import ZeroShotClassifier
from classify.scoring import LabelLogprobs
from classify.verbalizer.audit import LabelAudit

IMAGES = Path(__file__).parent / "images"

TREE_LABELS = ["refund", "refund request", "billing", "shipping", "ship damage"]
TREE_TEXT = "I paid twice, please return the money."

RESULT_LABELS = ["billing", "shipping", "technical problem", "account access", "refund"]
RESULT_TEXTS = [
    "Where is my parcel? It was due on Monday.",
    "The payment failed although my card is fine.",
    "I was charged twice, please return the money.",
    "I cannot log in, and the invoice is wrong too.",
]

INK, SOFT, PAPER, MARK = "#1f2328", "#6e7781", "#ffffff", "#0b5cad"
COLUMN, ROW = 118, 46


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    for name, tolerance in (("trie_exact", 0), ("trie_tolerance", 1e-3)):
        clf = ZeroShotClassifier(labels=TREE_LABELS, tolerance=tolerance)
        scores = clf.label_logprobs([TREE_TEXT], return_steps=True)
        (IMAGES / f"{name}.svg").write_text(trie(clf.audit(), scores), "utf-8")
    (IMAGES / "result.svg").write_text(result(), "utf-8")


def trie(audit: LabelAudit, scores: LabelLogprobs) -> str:
    """Draw the tree of label tokens, with what was read of it for one text."""
    piece = {
        token: spelled.replace(" ", "␣")
        for word in audit.words
        for token, spelled in zip(word.token_ids, word.pieces, strict=True)
    }
    label_of = {word.token_ids: word.label for word in audit.words}
    ends = sorted(label_of)
    nodes = sorted({end[:depth] for end in ends for depth in range(len(end) + 1)})
    p = {
        (*step.prefix, token): float(np.exp(value))
        for step in scores.steps[0]
        for token, value in step.logprobs.items()
    }

    def mass(node: tuple[int, ...]) -> float:
        return float(np.prod([p[node[: at + 1]] for at in range(len(node))]))

    def place(node: tuple[int, ...]) -> tuple[float, float]:
        rows = [row for row, end in enumerate(ends) if end[: len(node)] == node]
        return 60 + COLUMN * len(node), 36 + ROW * float(np.mean(rows))

    shapes = []
    for node in nodes[1:]:
        (x, y), (from_x, from_y) = place(node), place(node[:-1])
        is_read = node in p
        width = 1 + 11 * mass(node) if is_read else 1
        look = f'stroke="{MARK if is_read else SOFT}" stroke-width="{width:.1f}"'
        dashes = "" if is_read else ' stroke-dasharray="3 4"'
        shapes.append(f'<path d="M{from_x} {from_y:g}L{x} {y:g}" {look}{dashes}/>')
    for node in nodes:
        x, y = place(node)
        name = piece[node[-1]] if node else "prompt"
        shapes.append(box(x, y, name, f"{p[node]:.4f}" if node in p else ""))
        if node in label_of:
            found = f" {mass(node):.4f}" if node in p else " not read"
            shapes.append(words(x + 52, y + 4, label_of[node] + found, "start"))
    n_reads = int(scores.n_reads[0])
    alternative = (
        f"The tree of label tokens, {n_reads} of its nodes read. "
        f"Label mass {scores.label_mass[0]:.4f}."
    )
    size = (60 + COLUMN * max(map(len, ends)) + 215, 26 + ROW * len(ends))
    return svg(*size, alternative, shapes)


def result() -> str:
    """Draw texts with the probability of each label."""
    clf = ZeroShotClassifier(labels=RESULT_LABELS)
    scores = clf.label_logprobs(RESULT_TEXTS)
    columns = [list(scores.classes).index(name) for name in RESULT_LABELS]
    left, step = 350, 108
    shapes = [
        words(left + step * at, 26, name, "start")
        for at, name in enumerate([*RESULT_LABELS, "label mass"])
    ]
    for row, text in enumerate(RESULT_TEXTS):
        y = 62 + 38 * row
        shapes.append(words(14, y, text, "start"))
        shares = [*scores.proba[row, columns], scores.label_mass[row]]
        best = int(np.argmax(shares[:-1]))
        for at, share in enumerate(shares):
            x, fill = left + step * at, MARK if at == best else SOFT
            shapes.append(
                f'<rect x="{x}" y="{y - 13}" width="{52 * share + 0.5:.1f}" '
                f'height="16" fill="{fill}"/>'
            )
            shapes.append(words(x + 52 * share + 6, y, f"{share:.2f}", "start"))
    alternative = "; ".join(
        f"{text} {RESULT_LABELS[int(np.argmax(proba))]} {proba.max():.2f}"
        for text, proba in zip(RESULT_TEXTS, scores.proba[:, columns], strict=True)
    )
    return svg(left + step * 6 + 10, 50 + 38 * len(RESULT_TEXTS), alternative, shapes)


def box(x: float, y: float, name: str, value: str) -> str:
    height = 34 if value else 22
    rectangle = (
        f'<rect x="{x - 42:g}" y="{y - height / 2:g}" width="84" height="{height}" '
        f'rx="4" fill="{PAPER}" stroke="{INK}"/>'
    )
    if not value:
        return rectangle + words(x, y + 4, name, "middle")
    return (
        rectangle
        + words(x, y - 3, name, "middle")
        + words(x, y + 12, value, "middle", SOFT)
    )


def words(x: float, y: float, text: str, anchor: str, fill: str = INK) -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}"'
    return f"<text {place}>{escape(text)}</text>"


def svg(width: float, height: float, alternative: str, shapes: list[str]) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
    look = 'role="img" font-family="sans-serif" font-size="13"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {look}>',
            f"<title>{escape(alternative)}</title>",
            f'<rect width="100%" height="100%" rx="6" fill="{PAPER}"/>',
            *shapes,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    main()
