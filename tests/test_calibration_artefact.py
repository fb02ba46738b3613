"""Calibrations as files, and what they are tied to."""

import json
from dataclasses import replace

import numpy as np
import pytest

from classify.calibration import (
    METHODS,
    PROBE_METHODS,
    LabelCalibrator,
    check_fingerprint,
    fingerprint_of,
)
from classify.demo import model_folder
from classify.errors import ConfigError, DataError, InputError
from classify.labels import LabelSet
from classify.prompts import PromptTemplate
from classify.scoring.fingerprint import (
    differing_keys,
)
from classify.tokenizer import load_tokenizer
from classify.verbalizer import Verbalizer
from tests.posteriors import posteriors

PRINT = {"model": "org/name@main", "prompt": "sha256:12", "strategy": "exact"}


@pytest.fixture(scope="module")
def drawn():
    return posteriors(240, 3)


@pytest.fixture(scope="module")
def made(drawn):
    calibrator = LabelCalibrator("affine", classes=drawn.names)
    return calibrator.fit(drawn.log_proba, drawn.y, fingerprint=PRINT)


@pytest.mark.parametrize("classes", ["names", "numbers"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_is_loaded_exactly(method, classes, drawn, tmp_path):
    prior = dict(zip(drawn.names.tolist(), [0.3, 0.4, 0.3], strict=True))
    if classes == "numbers":
        prior = [0.3, 0.4, 0.3]
    calibrator = LabelCalibrator(
        method, prior, classes=drawn.names if classes == "names" else None, force=True
    )
    calibrator.fit(
        drawn.log_proba,
        drawn.y if classes == "names" else drawn.codes,
        probes=drawn.log_proba[:2] if method in PROBE_METHODS else None,
        fingerprint=PRINT,
    )
    path = tmp_path / "calibration.json"
    calibrator.save(path)
    loaded = LabelCalibrator.load(path, fingerprint=PRINT)

    np.testing.assert_array_equal(
        loaded.transform(drawn.log_proba), calibrator.transform(drawn.log_proba)
    )
    assert loaded.predict(drawn.log_proba).tolist() == (
        calibrator.predict(drawn.log_proba).tolist()
    )
    for name in vars(calibrator):
        if name.endswith("_"):
            np.testing.assert_equal(getattr(loaded, name), getattr(calibrator, name))
    again = tmp_path / "again.json"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_a_matrix_that_lacks_a_label_is_loaded_exactly(drawn, tmp_path):
    kept = drawn.codes != 1
    calibrator = LabelCalibrator("matrix", classes=drawn.names)
    calibrator.fit(drawn.log_proba[kept], drawn.y[kept]).save(tmp_path / "c.json")
    np.testing.assert_array_equal(
        LabelCalibrator.load(tmp_path / "c.json").transform(drawn.log_proba),
        calibrator.transform(drawn.log_proba),
    )


def test_the_file_can_be_read_by_people(made, tmp_path):
    made.save(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert list(content)[:4] == ["format", "created", "versions", "fingerprint"]
    assert content["format"] == "classify calibration 1"
    assert content["fingerprint"] == PRINT
    assert content["n_labels"] == 240
    assert content["parameters"]["bias"] == made.bias_.tolist()
    assert set(content["metrics"]) == {"before", "after"}
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


def test_another_fingerprint_is_refused_by_name(made, tmp_path):
    path = tmp_path / "c.json"
    made.save(path)
    other = {"model": "org/name@main", "prompt": "sha256:99", "tolerance": "0.0"}
    with pytest.raises(ConfigError) as caught:
        LabelCalibrator.load(path, fingerprint=other)
    assert str(caught.value) == (
        f"The calibration {str(path)!r} was fitted on something else. prompt: fitted "
        "with sha256:12, now sha256:99; strategy: fitted with exact, now nothing "
        "recorded; tolerance: fitted with nothing recorded, now 0.0. Fit it again, or "
        "use it anyway with force=True."
    )
    forced = LabelCalibrator.load(path, fingerprint=other, force=True)
    assert forced.fingerprint_ == other  # so that a classifier takes it


def test_a_file_that_cannot_be_written_is_an_error(made, tmp_path):
    path = tmp_path / "missing" / "c.json"
    with pytest.raises(DataError) as caught:
        made.save(path)
    assert str(caught.value) == (
        f"The calibration {str(path)!r} cannot be written: No such file or directory. "
        "Name a file in a folder that exists."
    )


def broken(content, **changes):
    return json.dumps(content | changes)


def test_files_that_are_no_calibrations_are_refused(made, tmp_path):
    path = tmp_path / "c.json"
    made.save(path)
    good = json.loads(path.read_text("utf-8"))
    short = good["parameters"] | {"bias": [0.0]}
    negative = good["parameters"] | {"scale": [1.0, -1.0, 1.0]}
    wanted = "Give a file that LabelCalibrator.save wrote."
    damaged = f"The calibration {str(path)!r} is damaged."
    for text, message in {
        "{": f"{str(path)!r} is no calibration: it is not JSON (Expecting property "
        f"name enclosed in double quotes: line 1 column 2 (char 1)). {wanted}",
        "[]": f"{str(path)!r} is not a calibration that this version can read: "
        f"its format must be 'classify calibration 1', and is None. {wanted}",
        broken(good, format="classify calibration 2"): f"{str(path)!r} is not "
        "a calibration that this version can read: its format must be 'classify "
        f"calibration 1', and is 'classify calibration 2'. {wanted}",
        broken(good, n_labels=-1): f"{damaged} n_labels: Input should be greater than "
        "or equal to 0. Fit and save it again.",
        broken(
            good, parameters=negative
        ): f"{damaged} parameters.affine.scale.1: Input "
        "should be greater than 0. Fit and save it again.",
        broken(good, parameters=short): f"{damaged} scale and bias must have 3 entries "
        "each, got 3, 1. Fit and save it again.",
        broken(good, prior=[1.0]): f"{damaged} prior must have 3 entries. Fit and save "
        "it again.",
        broken(good, surprise=1): (
            f"{damaged} surprise: Extra inputs are not permitted. Fit and save it "
            "again."
        ),
    }.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError) as caught:
            LabelCalibrator.load(path)
        assert str(caught.value) == message
    path.unlink()
    with pytest.raises(DataError) as caught:
        LabelCalibrator.load(path)
    assert str(caught.value) == (
        f"The calibration {str(path)!r} cannot be read: No such file or directory. "
        f"{wanted}"
    )


# --------------------------------------------------------------------- fingerprints


@pytest.fixture(scope="module")
def parts():
    return {
        "model": model_folder(),
        "template": PromptTemplate(),
        "verbalizer": Verbalizer(),
        "tokenizer": load_tokenizer(str(model_folder())),
        "labels": LabelSet.parse(["billing", "shipping"]),
        "strategy": "exact",
        "tolerance": 1e-3,
    }


def test_a_fingerprint_is_made_of_contents(parts, tmp_path):
    moved = tmp_path / "under another name"
    moved.mkdir()
    for path in model_folder().iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    there = parts | {"model": moved, "tokenizer": load_tokenizer(str(moved))}
    assert fingerprint_of(**there) == fingerprint_of(**parts)


def test_using_the_tokenizer_does_not_change_the_fingerprint(parts):
    before = fingerprint_of(**parts)
    backend = parts["tokenizer"].backend
    backend(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert fingerprint_of(**parts) == before


@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        (
            "template",
            PromptTemplate("{text}\nTopic:", chat=False),
            {"prompt.template", "prompt.chat"},
        ),
        (
            "template",
            PromptTemplate(answer_prefix="It is"),
            {"prompt.answer_prefix"},
        ),
        (
            "template",
            PromptTemplate(options="none"),
            {"prompt.template", "prompt.options"},
        ),
        ("template", PromptTemplate(system="Sort mail."), {"prompt.system"}),
        (
            "template",
            PromptTemplate(examples=[("a", "billing")]),
            {"prompt.examples"},
        ),
        ("template", PromptTemplate(chat=True), set()),
        ("template", PromptTemplate(too_long="error"), set()),
        ("verbalizer", Verbalizer(case_variants=True), {"label_words"}),
        (
            "labels",
            LabelSet.parse(["billing", "refund"]),
            {"labels", "label_words"},
        ),
        (
            "labels",
            LabelSet.parse({"billing": ["invoice"], "shipping": None}),
            {"label_words"},
        ),
        (
            "labels",
            LabelSet.parse({"billing": "Invoices", "shipping": None}),
            {"prompt.template", "prompt.options", "prompt.descriptions"},
        ),
        ("strategy", "generate", {"strategy"}),
        ("tolerance", 0.0, {"tolerance"}),
        ("model", "org/name", {"model"}),
    ],
)
def test_what_changes_the_scores_changes_the_fingerprint(parts, name, value, changed):
    before, after = fingerprint_of(**parts), fingerprint_of(**parts | {name: value})
    assert set(differing_keys(before, after)) == changed
    assert set(differing_keys(after, before)) == changed


def test_a_prompt_that_reads_the_same_is_the_same(parts):
    written = PromptTemplate("Text: {text}\nCategory:", chat=False)
    in_front = PromptTemplate("Text: {text}\n", chat=False, answer_prefix="Category:")
    one, other = (
        fingerprint_of(**parts | {"template": recipe}) for recipe in (written, in_front)
    )
    assert one["prompt.template"] != other["prompt.template"]
    check_fingerprint(one, other, what="It")


# Digests of version 0.1.0.dev0 before parts were recorded.
@pytest.mark.parametrize(
    ("recipe", "digest"),
    [
        (PromptTemplate(), "sha256:e3de08480eb0a7bb"),
        (PromptTemplate("{text}\nTopic:", chat=False), "sha256:c9f11f9515e165dc"),
        (
            PromptTemplate(
                answer_prefix="It is", system="Sort mail.", examples=[("a", "billing")]
            ),
            "sha256:f398f509949030c0",
        ),
    ],
)
def test_files_that_record_no_parts_are_still_taken(parts, recipe, digest):
    present = fingerprint_of(**parts | {"template": recipe})
    saved = {key: present[key] for key in present if not key.startswith("prompt.")}
    check_fingerprint(saved | {"prompt": digest}, present, what="It")
    other = saved | {"prompt": "sha256:0123456789abcdef"}
    with pytest.raises(ConfigError) as caught:
        check_fingerprint(other, present, what="It")
    assert str(caught.value) == (
        "It was fitted on something else. prompt: fitted with sha256:0123456789abcdef, "
        f"now {digest}. Fit it again, or use it anyway with force=True."
    )


def test_a_file_of_when_a_space_followed_an_opening_quote_is_refused(parts):
    recipe = PromptTemplate(chat=False, answer_prefix='{"topic": "')
    present = fingerprint_of(**parts | {"template": recipe})
    assert present["prompt"] != "sha256:e662a58eeb0d55f3"  # as written then


def test_long_parts_are_shown_from_where_they_differ(parts):
    recipes = [
        PromptTemplate("Sort these letters, one by one. " * 3 + end + ": {text}")
        for end in ("First", "Second")
    ]
    one, other = (fingerprint_of(**parts | {"template": recipe}) for recipe in recipes)
    with pytest.raises(ConfigError) as caught:
        check_fingerprint(one, other, what="It")
    assert str(caught.value) == (
        "It was fitted on something else. prompt.template: fitted with …rt these "
        "letters, one by one. First: {text}, now …rt these letters, one by one. "
        "Second: {text}. Fit it again, or use it anyway with force=True."
    )


def test_a_hub_model_is_its_id_and_revision(parts):
    hub = parts | {"model": "org/name"}
    assert fingerprint_of(**hub)["model"] == "org/name@main"
    assert fingerprint_of(**hub, revision="v2")["model"] == "org/name@v2"


def test_another_weight_in_a_large_file_changes_the_fingerprint(parts, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    weights = np.zeros(6 << 20, dtype=np.uint8)
    prints = set()
    for at in (None, 0, 3 << 20, -1):
        changed = weights.copy()
        if at is not None:
            changed[at] = 1
            changed[at - 70_000 : at] = 1  # a tensor, not a byte
        (tmp_path / "model.safetensors").write_bytes(changed.tobytes())
        prints.add(fingerprint_of(**parts | {"model": tmp_path})["model"])
    assert len(prints) == 4


def test_every_file_that_a_model_was_split_into_is_digested(parts, tmp_path):
    files = [tmp_path / f"a.b-{at:05}-of-00003.gguf" for at in (1, 2, 3)]
    for file in files:
        file.write_bytes(b"GGUF")

    def of_model():
        return fingerprint_of(**parts | {"model": files[0]})["model"]

    prints = [of_model()]
    for file in files:
        file.write_bytes(b"gguf")
        prints.append(of_model())
    files[2].unlink()
    prints.append(of_model())
    assert len(set(prints)) == 5
    (tmp_path / "a.b-00003-of-00004.gguf").write_bytes(b"of another model")
    assert of_model() == prints[-1]


def test_a_chat_template_that_writes_the_date_changes_nothing(parts):
    recipe = replace(parts["template"], system="You sort letters.")
    first = fingerprint_of(**parts | {"template": recipe})
    backend = parts["tokenizer"].backend
    kept = backend.chat_template
    try:
        backend.chat_template = "Another day. " + kept
        second = fingerprint_of(**parts | {"template": recipe})
    finally:
        backend.chat_template = kept
    different = {key for key in first if first[key] != second[key]}
    assert different == {"tokenizer"}  # its source, not what it rendered


def test_equal_fingerprints_pass():
    check_fingerprint(PRINT, dict(PRINT), what="It")
    with pytest.raises(InputError):
        check_fingerprint({}, PRINT, what="It")
