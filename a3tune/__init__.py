"""A3Tune: see where a medical vision-language model looks, and tune it to look where it matters.

The public names stand in ``__init__.pyi``; each is loaded when it is first asked for.
"""

import logging

import lazy_loader

from a3tune.openmp import RUN, wait_as
from a3tune.peft_registration import register_with_peft

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Before torch is loaded.
wait_as(RUN)

# It tells on every product in 8 bit that the product is one in 8 bit, and at the start what it could also use.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

register_with_peft()
