"""Models that are saved again while a process uses them."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from classify import ZeroShotClassifier
from classify.calibration import LabelCalibrator
from classify.demo import model_folder
from classify.engines import clear_engines, load_engine
from classify.engines.files import files_of
from classify.errors import ConfigError, ModelLoadError
from classify.jobs.identity import score_digest
from classify.tokenizer import load_tokenizer

LABELS = ["billing", "shipping"]
TEXTS = ["Where is my parcel?", "I was charged twice.", "The courier came late."]


@pytest.fixture
def model(tmp_path):
    clear_engines()
    yield Path(shutil.copytree(model_folder(), tmp_path / "model"))
    clear_engines()


def save_again(folder, seed):
    """Put other weights, of the same size, into a folder."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    draws = torch.Generator().manual_seed(seed)
    for name, weight in weights.items():
        weights[name] = weight + 0.1 * torch.randn(weight.shape, generator=draws)
    # As `save_pretrained` does: the old file may still be mapped into memory.
    path.unlink()
    save_file(weights, path, metadata={"format": "pt"})


def ask(classifier):
    return classifier.predict_proba(TEXTS)


def classifier_of(folder, **options):
    return ZeroShotClassifier(LABELS, model=str(folder), device="cpu", **options)


def test_a_new_classifier_uses_what_was_saved_last(model):
    before = classifier_of(model)
    first, fingerprint = ask(before), before.scorer().fingerprint()
    save_again(model, 1)
    after = classifier_of(model)
    second = ask(after)
    assert np.abs(first - second).max() > 0.01
    assert after.scorer().fingerprint()["model"] != fingerprint["model"]
    # One that has loaded it already follows: its fingerprint is that of the folder.
    np.testing.assert_array_equal(ask(before), second)
    assert before.scorer().fingerprint() == after.scorer().fingerprint()
    assert before.load_engine() is after.load_engine()
    # As in a process of its own.
    clear_engines()
    np.testing.assert_allclose(ask(classifier_of(model)), second, atol=1e-5)


def test_a_scorer_is_of_one_model(model):
    classifier = classifier_of(model)
    scorer = classifier.scorer()
    save_again(model, 1)
    message = (
        f"The files of the model {str(model)!r} were saved again while it was in use, "
        "so the results would mix two models: run this again."
    )
    for use in (scorer.fingerprint, scorer.model.load_engine):
        with pytest.raises(ModelLoadError, match=f"^{re.escape(message)}$"):
            use()
    ask(classifier)


def test_what_a_job_has_loaded_stays(model):
    scorer = classifier_of(model).scorer()
    engine = scorer.model.load_engine()
    save_again(model, 1)
    assert scorer.model.load_engine() is engine


def test_a_calibrator_is_refused_for_what_was_saved_again(model):
    texts, true = TEXTS * 4, ["shipping", "billing", "shipping"] * 4
    classifier = classifier_of(model, calibrator=LabelCalibrator("temperature"))
    classifier.fit(texts, true)
    ask(classifier)
    save_again(model, 1)
    with pytest.raises(ConfigError, match=r"^The calibrator was fitted on something"):
        ask(classifier)
    ask(classifier.fit(texts, true))


def test_a_calibration_file_that_was_written_again_is_read_again(model, tmp_path):
    from classify.estimators.artefact import Artefact

    texts, true = TEXTS * 4, ["shipping", "billing", "shipping"] * 4
    path = tmp_path / "calibration.json"

    def write(method):
        fitted = classifier_of(model, calibrator=LabelCalibrator(method)).fit(
            texts, true
        )
        Artefact(fitted.calibrator_).save(path)
        return ask(fitted)

    first = write("temperature")
    classifier = classifier_of(model, calibrator=str(path))
    np.testing.assert_allclose(ask(classifier), first, atol=1e-6)
    second = write("prior_matching")
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(ask(classifier), second, atol=1e-6)


def test_a_tokenizer_or_chat_template_that_was_saved_again_is_noticed(model):
    tokenizer = load_tokenizer(model)
    assert load_tokenizer(str(model)) is tokenizer
    (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    message = {"role": "user", "content": "a text"}
    shown = load_tokenizer(model).render_chat([message], add_generation_prompt=True)
    assert shown == "a text"
    path = model / "tokenizer.json"
    state = json.loads(path.read_text("utf-8"))
    state["added_tokens"].append(
        state["added_tokens"][0] | {"id": len(tokenizer), "content": "<|more|>"}
    )
    path.write_text(json.dumps(state), "utf-8")
    assert len(load_tokenizer(model)) == len(tokenizer) + 1


def test_links_are_followed(model, tmp_path):
    # A folder of the hub's cache is one of links to files elsewhere.
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for path in model.iterdir():
        (snapshot / path.name).symlink_to(path)
    first = ask(classifier_of(snapshot))
    save_again(model, 1)
    second = ask(classifier_of(snapshot))
    assert np.abs(first - second).max() > 0.01
    # So is a link to the folder itself.
    other = Path(shutil.copytree(model_folder(), tmp_path / "other"))
    link = tmp_path / "link"
    link.symlink_to(model)
    np.testing.assert_array_equal(ask(classifier_of(link)), second)
    link.unlink()
    link.symlink_to(other)
    np.testing.assert_allclose(ask(classifier_of(link)), first, atol=1e-5)


def test_the_same_name_in_another_folder_is_another_model(model, tmp_path, monkeypatch):
    other = tmp_path / "elsewhere"
    shutil.copytree(model, other / "model")
    save_again(other / "model", 1)
    found = []
    for folder in (model.parent, other):
        monkeypatch.chdir(folder)
        found.append(ask(classifier_of("model")))
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_files_beside_the_model_do_not_matter(model):
    engine = load_engine("transformers", model, device="cpu")
    for name in ("out.csv", "out.jsonl", "calibration.json", "training.log"):
        (model / name).write_text("anything")
    assert load_engine("transformers", model, device="cpu") is engine
    os.utime(model / "config.json", ns=(1, 1))
    assert load_engine("transformers", model, device="cpu") is not engine


def test_adapters_and_draft_models_are_files_too(model, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    options = {"lora": adapter, "speculation": {"model": str(model)}, "dtype": "auto"}
    assert files_of("org/name", {"dtype": "auto"}) == ()
    found = files_of("org/name", options)
    assert {Path(each[0]).parent for each in found} == {adapter, model}
    (adapter / "adapter_config.json").write_text('{"r": 8}')
    assert files_of("org/name", options) != found


def test_every_file_that_a_model_was_split_into_is_watched(tmp_path):
    first, second, third = (tmp_path / f"m-0000{at}-of-00003.gguf" for at in (1, 2, 3))
    alike = ("m-00001-of-00002.gguf", "n-00002-of-00003.gguf", "m-2-of-3.gguf")
    for path in (first, second, third, *(tmp_path / name for name in alike)):
        path.write_bytes(b"GGUF")
    found = [files_of(first)]
    assert [each[0] for each in found[0]] == [str(first), str(second), str(third)]
    assert {each[0] for each in files_of("", [{"model": str(third)}])} == {
        each[0] for each in found[0]
    }
    for change in (
        lambda: third.write_bytes(b"GGUF2"),
        lambda: os.utime(second, ns=(1, 1)),
        second.unlink,
    ):
        change()
        found.append(files_of(first))
    assert len(set(found)) == 4
    for name in alike:
        assert [each[0] for each in files_of(tmp_path / name)] == [str(tmp_path / name)]


def test_an_adapter_is_part_of_what_scores_depend_on(model, tmp_path):
    adapter, moved = tmp_path / "adapter", tmp_path / "moved"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"lora_alpha": 8}')

    def depends_on(**options):
        scorer = classifier_of(model, engine="vllm", engine_options=options).scorer()
        return scorer.fingerprint()["model"], score_digest(scorer)

    alone, first = depends_on(), depends_on(lora=adapter)
    assert first[0].startswith(f"{alone[0]} lora=sha256:")
    shutil.copytree(adapter, moved)
    assert depends_on(lora=str(moved)) == first
    (adapter / "adapter_config.json").write_text('{"lora_alpha": 9}')
    second = depends_on(lora=adapter)
    assert len({alone, first, second}) == 3
    assert len({each[1] for each in (alone, first, second)}) == 3
