"""The notebook runs from top to bottom, in the time that a reader has, and shows what its words say."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "notebooks"


@pytest.fixture(scope="module")
def shown():
    """What each of the notebook's code cells shows at its end."""
    notebook = nbformat.read(FOLDER / "quickstart.ipynb", as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "keep it without outputs"
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": FOLDER}})
    client.execute(env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    results = [[output.data for output in cell.outputs if output.output_type == "execute_result"] for cell in cells]
    return [result[-1] if result else {} for result in results]


def test_ten_cells_from_an_image_to_an_adapter(shown):
    assert len(shown) == 10
    assert "image/png" in shown[3]
    assert shown[8]["text/plain"] == "4"


def test_the_loss_of_ones_own_loop_draws_the_attention_in(shown):
    losses = [float(part) for part in shown[6]["text/plain"].strip("[]").split(",")]
    assert losses[-1] < losses[0]
    before, after = (int(part.split("%")[0].split()[-1]) for part in shown[7]["text/plain"].split(" before, "))
    assert after > before


def test_the_adapter_answers_by_itself(shown):
    assert len(shown[9]["text/plain"].strip("'")) >= 2
