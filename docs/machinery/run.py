"""Run a notebook without Jupyter and store what its cells give: `make tutorial`.

    python docs/machinery/run.py docs/tutorial.ipynb [--out COPY] [--folder FOLDER]

Cells run top to bottom, in one process and in the folder where this is started, or in FOLDER. A cell's output is
what it prints, and what its last expression is: a picture of Pillow as JPEG, anything else as text. A cell that fails ends
the run.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH = 900  # of pictures, in pixels


def shown(value: object) -> dict[str, Any]:
    """What a notebook holds of a cell's last expression."""
    if not isinstance(value, Image.Image):
        return {"text/plain": [repr(value)]}
    small = value.convert("RGB")
    small.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "jpeg", quality=80, optimize=True)
    return {"image/jpeg": base64.b64encode(file.getvalue()).decode(), "text/plain": ["a picture"]}


def outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run one cell."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    said, value = io.StringIO(), None
    with contextlib.redirect_stdout(said):
        exec(compile(tree, f"<cell {number}>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"<cell {number}>", "eval"), names)
    found: list[dict[str, Any]] = []
    if said.getvalue():
        found.append({"output_type": "stream", "name": "stdout", "text": said.getvalue().splitlines(keepends=True)})
    if value is not None:
        data = shown(value)
        found.append({"output_type": "execute_result", "execution_count": number, "data": data, "metadata": {}})
    return found


def main() -> None:
    """Run all cells and write the notebook."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, help="write to this file instead of the notebook itself")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the cells run and write; made if need be")
    asked = parser.parse_args()
    out = (asked.out or asked.notebook).resolve()
    notebook = json.loads(asked.notebook.read_text("utf-8"))
    asked.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), 1):
        cell["outputs"], cell["execution_count"] = outputs("".join(cell["source"]), names, number), number
    out.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
