"""Strip notebooks for git: no outputs, no counts, no traces of an editor.

The alternative text of pictures stays: the site reads it from the metadata of a cell.

python notebooks/strip.py notebooks/*.ipynb
"""

import sys
from pathlib import Path

import nbformat

METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}
KEPT = ("mystnb",)


def strip(path: Path) -> None:
    """Write a notebook without what running it or looking at it leaves behind."""
    before = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
        )
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    after = nbformat.writes(notebook) + "\n"
    if after != before:
        path.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        strip(Path(name))
