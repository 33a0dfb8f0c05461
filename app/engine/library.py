# ruff: noqa: F401
"""What the page uses of the library that takes seconds to load: each name's module is imported when it is first used.

The page is there before torch is: its own modules import this one, and ask it for ``library.load_model``, say.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # read by type checkers, and by `__getattr__`
    from a3tune.adapters.stored import adapter_fingerprint
    from a3tune.adapters.switch import AdapterSet
    from a3tune.attention.metrics import attention_mass, measure_head_set, measure_heads
    from a3tune.catalogue import check_choice, check_precision, entries, entry, fetch, machine
    from a3tune.evaluation.scoring import compare_folders, comparison_record
    from a3tune.figures.plots import save_figure
    from a3tune.inspection.deletion_curves import curve_passes, measure_curves, measure_randomised
    from a3tune.inspection.dicom_export import dicom_bytes, dicom_objects
    from a3tune.inspection.inspect import inspect_each, inspect_image
    from a3tune.inspection.record import write_inspection
    from a3tune.inspection.report import MapStyle, Side, full_size_pictures, page_figure, shown_figure
    from a3tune.inspection.views import answer_rows
    from a3tune.labels.cache import RegionCache
    from a3tune.labels.export import write_labels
    from a3tune.labels.pipeline import LabelMaker
    from a3tune.labels.segmenters_and_scorers import load_label_maker
    from a3tune.labels.sources import LABELS_NAME, item_prompt, safe_rank
    from a3tune.lack_of_memory import release_memory, trim_memory
    from a3tune.model_permissions import permitted
    from a3tune.models.fingerprint import weights_fingerprint
    from a3tune.models.load import load_model
    from a3tune.prefixes.cache import PrefixCache, PrefixStore
    from a3tune.training.adapter_intake import check_fit, fetch_adapter, unpack_adapter
    from a3tune.training.attention_targets import target_plan
    from a3tune.training.config_file import load_config, to_yaml
    from a3tune.training.foreign_run import unpack_run
    from a3tune.training.model_card import zip_adapter, zip_folder
    from a3tune.training.publish import push_adapter
    from a3tune.training.run_folder import RunFolder

_MODULES: dict[str, str] = {
    name.name: str(statement.module)
    for block in ast.parse(Path(__file__).read_text(encoding="utf-8")).body
    if isinstance(block, ast.If)
    for statement in block.body
    if isinstance(statement, ast.ImportFrom)
    for name in statement.names
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"{__name__} has no {name}")
    return getattr(import_module(_MODULES[name]), name)
