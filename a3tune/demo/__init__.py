"""The demo bundle: model, scorer, adapters, sample and examples, each made by a command from a fixed seed."""
