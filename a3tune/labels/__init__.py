"""Prompt-aware weak labels: regions of an image, ranked for a text, and the targets made from them."""
