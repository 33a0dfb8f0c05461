"""A3Tune: see where a medical vision-language model looks, and tune it to look where it matters."""

import logging
import os

__version__ = "0.1.0"

# OpenMP's threads wait for one another by turning in circles, with libgomp for some 15 ms before they sleep: on a
# machine whose cores have other work too (a page's server beside a run) the thread that turns takes the core from the
# one that it waits for, and a product of two small matrices takes 15 ms instead of 20 microseconds. So they sleep
# after about a millisecond. Sooner would cost a run that has the cores for itself: its threads wait a little after each
# product and would be woken for the next (a third more time at 50 microseconds, none at a millisecond). libgomp reads
# this when torch is loaded; what the user has set counts.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

# It tells on every product in 8 bit that the product is one in 8 bit, and at the start what it could also use.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
