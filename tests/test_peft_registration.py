"""One import makes A3MoE known to PEFT, whichever comes first, and loads nothing by itself."""

import subprocess
import sys

import pytest

_KNOWN = "from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as known; assert 'A3MOE' in known, 'unknown'"


def run(code):
    # Collecting garbage while PEFT is loaded would take a third of the time.
    done = subprocess.run(
        [sys.executable, "-c", f"import gc; gc.disable(); {code}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "code",
    [
        f"import a3tune, peft; {_KNOWN}",
        f"import peft, a3tune; {_KNOWN}",
        # Asking whether PEFT is installed, as transformers does, must not count as loading it.
        f"import a3tune, importlib.util as u; u.find_spec('peft'); import peft; {_KNOWN}; peft.__loader__.get_source",
    ],
    ids=["before", "after", "asked for"],
)
def test_peft_knows_the_method(code):
    run(code)


def test_importing_the_library_loads_no_torch_and_no_peft():
    run("import sys, a3tune; assert not {'torch', 'peft', 'transformers', 'numpy'} & set(sys.modules), 'loaded'")
