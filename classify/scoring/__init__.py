"""From prompts and tries to label log-probabilities.

A *strategy* is a generator function, one call for each text: it yields requests and is
sent their results. The *driver* keeps many of them in flight over one engine.
"""

from classify.scoring.bounds import Interval, LabelBounds
from classify.scoring.driver import Flight, drive, score_prompts
from classify.scoring.live import LiveRun
from classify.scoring.masses import average_masses, log_mean_exp
from classify.scoring.reasoning import Chain, Reasoning, Trajectory
from classify.scoring.result import LabelLogprobs
from classify.scoring.strategies import (
    Strategy,
    exact,
    generate,
    make_strategy,
    reason,
)
from classify.scoring.text_score import NodeRead, TextScore

__all__ = [
    "Chain",
    "Flight",
    "Interval",
    "LabelBounds",
    "LabelLogprobs",
    "LiveRun",
    "NodeRead",
    "Reasoning",
    "Strategy",
    "TextScore",
    "Trajectory",
    "average_masses",
    "drive",
    "exact",
    "generate",
    "log_mean_exp",
    "make_strategy",
    "reason",
    "score_prompts",
]
