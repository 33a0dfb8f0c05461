"""A3Tune: see where a medical vision-language model looks, and tune it to look where it matters."""

import logging

from a3tune.openmp import RUN, wait_as
from a3tune.peft_registration import register_with_peft

__version__ = "0.1.0"

# Before torch is loaded.
wait_as(RUN)

# It tells on every product in 8 bit that the product is one in 8 bit, and at the start what it could also use.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

register_with_peft()
