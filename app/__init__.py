"""The browser application: pages, their wiring, and nothing that computes."""

from a3tune.waiting import SERVER, wait_as

# Before torch is loaded.
wait_as(SERVER)
