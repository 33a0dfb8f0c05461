"""Adapters: A3MoE as a PEFT method, and several adapters on one set of base weights."""

import warnings

# PEFT asks transformers by the former name of a property, which warns each time that an adapter is put on a model. For
# the whole process and not around each call: adapters are loaded in threads, where a filter for a while is not safe.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
