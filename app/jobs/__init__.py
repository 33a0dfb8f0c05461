"""Tuning runs and evaluations as detached processes: one queue, kept on the disk."""
