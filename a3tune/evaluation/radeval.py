"""Report metrics that need models of their own, by RadEval where it is installed and their weights are at hand.

Each runs in a process of its own in which nothing can be downloaded: weights that are not there are told, not fetched.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

MEASURED: Mapping[str, tuple[str, str, str]] = {
    "radgraph": ("RadGraph F1", "radgraph_partial", "RadGraph-XL, partial reward"),
    "f1chexbert": ("CheXbert F1", "f1chexbert_all_micro_f1", "micro average of 14 observations"),
    "green": ("GREEN", "green", ""),
    "bertscore": ("BERTScore", "bertscore", "tells how alike texts are: opposite findings are nearly as alike"),
}
"""RadEval's name -> name of the number, the key that RadEval gives it, and what a reader must know of it."""
_CODE = """
import json, sys
from radeval import RadEval
asked = json.load(sys.stdin)
measure = RadEval(metrics=[asked["metric"]], show_progress=False)
found = [measure(refs=refs, hyps=hyps)[asked["key"]] for refs, hyps in asked["reports"]]
print("\\n" + json.dumps([float(value) for value in found]))
"""


def radeval_installed() -> bool:
    """Whether RadEval (version 2.2 or later) is installed."""
    return importlib.util.find_spec("radeval") is not None


def measure(name: str, reports: Sequence[Sequence[tuple[str, str]]]) -> list[float] | str:
    """One of `MEASURED` over the reports of each of several systems, or why it cannot be measured here.

    Args:
        name: RadEval's name.
        reports: for each system (right, predicted).
    """
    if name == "green" and shutil.which("nvidia-smi") is None:
        return "not measured: its model of 7 billion parameters needs a GPU"
    texts = [([right for right, _ in pairs], [predicted for _, predicted in pairs]) for pairs in reports]
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        input=json.dumps({"metric": name, "key": MEASURED[name][1], "reports": texts}),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return [float(value) for value in json.loads(done.stdout.strip().rpartition("\n")[2])]
    except (ValueError, TypeError):
        why = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:200]
        return f"not measured: RadEval cannot, its weights may not be at hand ({why}); nothing is downloaded"
