"""Tuning runs: what the page shows of them."""
