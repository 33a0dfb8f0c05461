"""Makes A3MoE known to PEFT once PEFT is loaded, without loading it: ``import a3tune`` is all that an adapter needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_METHOD = "a3tune.adapters.a3moe"


class _PeftFinder(MetaPathFinder):
    """Finds PEFT as the other finders do, and has its loader import the method behind it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "peft":
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((found for found in others if found is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if module.__name__ == name:
                import_module(_METHOD)

        # Of this loader only: each module that is found has one of its own.
        vars(spec.loader)["exec_module"] = execute_and_register
        return spec


def register_with_peft() -> None:
    """Register A3MoE now if PEFT is loaded, else when it will be; calling it again changes nothing."""
    if "peft" in sys.modules:
        import_module(_METHOD)
    elif not any(isinstance(finder, _PeftFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PeftFinder())
