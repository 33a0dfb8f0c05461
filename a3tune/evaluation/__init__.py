"""How well a model answers and where it looks, measured over many questions."""
