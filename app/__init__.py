"""The browser application: pages, their wiring, and nothing that computes."""

from a3tune.openmp import SERVER, wait_as

# Before torch is loaded.
wait_as(SERVER)
