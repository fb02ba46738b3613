"""The notebooks: stripped in git, and running from top to bottom on the demo model."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CELL_SECONDS = 300


def names(path):
    return path.stem


def stripped(path):
    subprocess.run([sys.executable, FOLDER / "strip.py", path], check=True)
    return path.read_bytes()


def alternative_text(metadata):
    """Return what a screen reader says in place of the pictures of a cell."""
    return metadata.get("mystnb", {}).get("image", {}).get("alt", "")


def shows_picture(cell):
    return any("image/png" in each.get("data", {}) for each in cell.get("outputs", ()))


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == [
        "01_quickstart.ipynb",
        "02_what_the_model_sees.ipynb",
        "03_calibration_and_thresholds.ipynb",
        "04_a_codebook_over_a_table.ipynb",
        "05_thinking_and_trajectories.ipynb",
        "06_a_big_file_with_a_crash.ipynb",
        "07_speculation_and_tracked_tokens_on_vllm.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_is_valid_and_stripped(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    # A missing or a repeated cell id would be a warning, and warnings are errors.
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert {cell.id for cell in code if cell.outputs or cell.execution_count} == set()
    metadata = [cell.metadata for cell in notebook.cells if cell.metadata]
    assert all(alternative_text(each) for each in metadata)
    assert metadata == [
        {"mystnb": {"image": {"alt": alternative_text(each)}}} for each in metadata
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_runs_from_top_to_bottom(path, tmp_path):
    from nbclient import NotebookClient
    from traitlets.config import Config

    if path.stem.endswith("vllm"):
        pytest.importorskip("vllm")
    notebook = nbformat.read(path, as_version=4)
    # Files, for another test can take a port before the kernel does. The folder of a
    # test has too long a name for them.
    with tempfile.TemporaryDirectory() as sockets:
        connection = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(FOLDER)}},
            config=Config(KernelManager=connection),
        )
        # A failing cell, an assertion among them, raises here.
        # One thread: two that share busy cores wait for each other, many times as long.
        client.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [cell for cell in notebook.cells if shows_picture(cell)]
    assert pictures
    assert [cell.id for cell in pictures if not alternative_text(cell.metadata)] == []
    # Shown in red, as if something had failed.
    assert [each.text for each in outputs if each.get("name") == "stderr"] == []

    ran = tmp_path / path.name
    nbformat.write(notebook, ran)
    assert ran.read_bytes() != path.read_bytes()
    assert stripped(ran) == path.read_bytes()
