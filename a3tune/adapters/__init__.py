"""Adapters: A3MoE as a PEFT method, and several adapters on one set of base weights."""
