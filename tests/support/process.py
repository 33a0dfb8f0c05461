"""Sets up the process that runs the tests, as the programs of this project set up theirs."""

from a3tune.process import RUN, prepare_process

prepare_process(RUN)
