"""Sets up the process that runs the tests, as the programs of this project set up theirs."""

import gc

from a3tune.process import RUN, prepare_process

prepare_process(RUN)
# What is imported stays to the end: collecting garbage meanwhile takes a fifth of that time and finds nothing.
gc.disable()
