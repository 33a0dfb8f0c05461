"""A3Tune: see where a medical vision-language model looks, and tune it to look where it matters.

The public names stand in ``__init__.pyi``; each is loaded when it is first asked for.
"""

import lazy_loader

from a3tune.peft_registration import register_with_peft

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register_with_peft()
