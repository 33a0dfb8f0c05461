"""A3Tune: see where a medical vision-language model looks, and tune it to look where it matters."""

__version__ = "0.1.0"
