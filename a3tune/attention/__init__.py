"""Attention of the language model to the image: capture, head selection, losses, metrics and sinks."""
