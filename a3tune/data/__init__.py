"""Data sets of questions about images: read, checked, repaired and taken in."""
