"""Checks that this project computes what others computed: eager attention, published numbers, LLaVA-Med itself."""
