"""Models that are not there, not whole, or on a hub that cannot be reached."""

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from classify.demo import model_folder
from classify.engines.sources import check_source, check_weights
from classify.engines.transformers import TransformersEngine
from classify.errors import ConfigError, ModelLoadError
from classify.tokenizer import load_tokenizer

EXAMPLE = "or a hub id such as 'Qwen/Qwen2.5-0.5B'."


def raises(message, error=ModelLoadError):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.fixture
def model(tmp_path):
    return Path(shutil.copytree(model_folder(), tmp_path / "model"))


# ------------------------------------------------------------------- where it should be


@pytest.mark.parametrize("load", [load_tokenizer, TransformersEngine.load])
@pytest.mark.parametrize("name", ["./no-folder", "/nope", "~/nope", "a/b/c", "a name"])
def test_a_folder_that_is_not_there(load, name):
    message = (
        f"There is no folder {name!r} (looked in {Path.cwd()}). Give a folder with "
        f"config.json and weights, {EXAMPLE}"
    )
    with raises(message):
        load(name)


def test_a_file_is_no_model(model):
    path = str(model / "model.safetensors")
    with raises(f"{path!r} is a file: give the folder that holds the model, {EXAMPLE}"):
        check_source(path)


@pytest.mark.parametrize("load", [load_tokenizer, TransformersEngine.load])
def test_a_folder_without_a_model(load, tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    message = (
        f"The folder {str(tmp_path)!r} contains no model: it has no config.json. Give "
        "the folder of a saved or downloaded model."
    )
    with raises(message):
        load(tmp_path)


def test_a_model_without_its_tokenizer(model):
    for path in model.glob("tokenizer*"):
        path.unlink()
    message = (
        f"The folder {str(model)!r} has no tokenizer: it must hold tokenizer.json or "
        "the like. Save the model's tokenizer there too "
        "(`tokenizer.save_pretrained(folder)`)."
    )
    with raises(message):
        load_tokenizer(model)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b'{"version": "1.0"'])
def test_a_damaged_tokenizer(model, content):
    (model / "tokenizer.json").write_bytes(content)
    with pytest.raises(
        ModelLoadError,
        match=rf"^The tokenizer in the folder '{model}' cannot be loaded "
        r"\(tokenizer\.json\): .*[^.]\. Its files are damaged or not complete: "
        r"download or save them again\.$",
    ):
        load_tokenizer(model)


def test_a_device_that_is_not_there(model):
    with pytest.raises(
        ConfigError, match=r"^The device 'cuda:99' cannot be used here: .*[^.]\. Use "
    ):
        TransformersEngine.load(model, device="cuda:99")


# ------------------------------------------------------------------------- not whole


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n"
LFS_SAID = "it is a pointer of Git LFS, not the file itself (run `git lfs pull`)"


def weights_message(folder, fault):
    return (
        f"The weights of the model {str(folder)!r} are damaged or not fully "
        f"downloaded. {fault}. Download or save the model again."
    )


def test_a_cut_file_of_weights(model):
    path = model / "model.safetensors"
    whole = path.read_bytes()
    for content, fault in (
        (whole[:-1], f"it has {len(whole) - 1:,} of {len(whole):,} bytes"),
        (whole[:100], "it ends after 100 bytes, within its header"),
        (whole[:5], "it ends after 5 bytes, within its header"),
        (b"", "it is empty"),
        (LFS, LFS_SAID),
        (b"\n<html><body>Not found</body></html>", "it is a web page"),
        (b"\x04" + bytes(7) + b"text", "its header cannot be read"),
    ):
        path.write_bytes(content)
        with raises(weights_message(model, f"model.safetensors: {fault}")):
            TransformersEngine.load(model, device="cpu")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (LFS, LFS_SAID),
        (b"", "it is empty"),
        (b"PK\x03\x04 and no more", "its end is missing"),
    ],
)
def test_damaged_weights_of_torch(model, content, fault):
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(content)
    with raises(weights_message(model, f"pytorch_model.bin: {fault}")):
        TransformersEngine.load(model, device="cpu")


def test_a_missing_part(model):
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.x"}}
    (model / "model.safetensors").rename(model / "model-1-of-2.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with raises(weights_message(model, "model-2-of-2.x: it is missing")):
        TransformersEngine.load(model, device="cpu")
    (model / "model.safetensors.index.json").write_text("{")
    fault = "model.safetensors.index.json: it names no files"
    with raises(weights_message(model, fault)):
        check_weights(model)


def test_a_link_to_nowhere(model):
    # So do links in the hub's cache end when what they point to was deleted.
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to(model / "blob")
    with raises(weights_message(model, "model.safetensors: it is missing")):
        TransformersEngine.load(model, device="cpu")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "it is empty"),
        (LFS, LFS_SAID),
        (b"<!doctype html><title>Sign in</title>", "it is a web page"),
        (b"[1]", "it contains no settings"),
    ],
)
def test_a_damaged_configuration(model, content, fault):
    (model / "config.json").write_bytes(content)
    path = str(model / "config.json")
    message = (
        f"{path!r} is damaged or not fully downloaded: {fault}. Download or save the "
        "model again."
    )
    with raises(message):
        TransformersEngine.load(model, device="cpu")


# ------------------------------------------------------------------------- no network


def test_a_hub_that_cannot_be_reached_is_asked_once(tmp_path):
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))  # and no one listens
        endpoint = f"http://127.0.0.1:{asked.getsockname()[1]}"
        code = f"""
import os
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY",
             "all_proxy", "ALL_PROXY"):
    os.environ.pop(name, None)
os.environ |= {{"HF_ENDPOINT": {endpoint!r}, "HF_HOME": {str(tmp_path)!r}}}
from pathlib import Path
from classify import ZeroShotClassifier
from classify.engines.transformers import TransformersEngine
from classify.errors import ModelLoadError
clf = ZeroShotClassifier(["a", "b"], model="some/model")
for ask in (lambda: clf.predict(["a text"]), lambda: TransformersEngine.load("gpt2")):
    try:
        ask()
    except ModelLoadError as error:
        print(str(error).replace(str(Path.cwd()), "HERE"))
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("some/model", "gpt2"), strict=True):
        assert re.fullmatch(
            rf"There is no model '{name}': no such folder in HERE, not in the local "
            rf"hub cache, and the hub at {endpoint} cannot be reached \(.*refused.*\)\."
            r" Check the name, or give a folder\.",
            line,
        )
