"""Tuning runs: the queue, its processes and what the page shows of them."""
