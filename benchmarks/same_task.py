"""One text and three labels in other tools, on the demo model: docs/coming_from.md.

    python benchmarks/same_task.py classify      # or cappr, skorch, lm_eval

Each needs its package; `peers/requirements-*.txt` has the versions. CAPPr's own
`predict_proba` needs numpy below 2 as well.
"""

import sys

from classify.demo import model_folder

LABELS = ["billing", "shipping", "technical problem"]
TEXT = "Where is my parcel?"
TEMPLATE = "Text: {text}\n\nTopic:"
PROMPT = TEMPLATE.format(text=TEXT)
FOLDER = str(model_folder())


def of_classify():
    from classify import PromptTemplate, ZeroShotClassifier

    prompt = PromptTemplate(TEMPLATE, chat=False)
    clf = ZeroShotClassifier(LABELS, prompt=prompt, tolerance=0)
    scores = clf.label_logprobs([TEXT])
    return {"log p": scores.values, "p": scores.proba, "mass": scores.label_mass}


def of_cappr():
    from cappr.huggingface.classify import log_probs_conditional, predict_proba
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(FOLDER, torch_dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    both = {"model_and_tokenizer": (model, tokenizer)}
    [steps] = log_probs_conditional([PROMPT], LABELS, **both)
    return {
        "log p": [sum(label) for label in steps],
        "p": predict_proba([PROMPT], LABELS, **both),
    }


def of_skorch():
    from skorch.llm import ZeroShotClassifier
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    found = {}
    for name, adds_up in (("p", True), ("unnormalised p", False)):
        clf = ZeroShotClassifier(
            model=model, tokenizer=tokenizer, prompt=TEMPLATE, probas_sum_to_1=adds_up
        )
        found[name] = clf.fit(X=None, y=LABELS).predict_proba([TEXT])
    return found


def of_lm_eval():
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=FOLDER, device="cpu", dtype="float32")
    pairs = [(PROMPT, f" {label}") for label in LABELS]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    return {"log p": [logprob for logprob, _ in lm.loglikelihood(requests)]}


TOOLS = {
    "classify": of_classify,
    "cappr": of_cappr,
    "skorch": of_skorch,
    "lm_eval": of_lm_eval,
}

if __name__ == "__main__":
    for name, values in TOOLS[sys.argv[1]]().items():
        print(f"{name}: {values}")
