"""How long OpenMP's threads turn in circles while they wait for one another; libgomp reads it when torch is loaded.

As libgomp is made they turn for some 15 ms before they sleep. On a machine whose cores have other work too, the thread
that turns takes the core from the one that it waits for: a product of two small matrices takes 15 ms instead of 20
microseconds.
"""

import os

RUN = "20000"
"""About a millisecond. A run has the cores mostly for itself, and its threads wait a little after each product: to be
woken for the next one costs a third more time at 50 microseconds, nothing at a millisecond."""
SERVER = "1000"
"""About 50 microseconds. In a page's server answers, maps and regions are computed side by side, each by as many
threads as there are cores, beside a browser perhaps: an answer takes twice as long at a millisecond."""

_COUNT, _OURS = "GOMP_SPINCOUNT", "A3TUNE_SPINCOUNT"


def wait_as(count: str) -> None:
    """Have threads that are made from now on, and programs that are started, wait so; what the user has set counts.

    Args:
        count: `RUN` or `SERVER`.
    """
    # The second variable tells programs that are started from here that it was not the user who set the first.
    if "OMP_WAIT_POLICY" not in os.environ and os.environ.get(_COUNT) == os.environ.get(_OURS):
        os.environ[_COUNT] = os.environ[_OURS] = count
