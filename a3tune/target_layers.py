"""Which layers an adapter goes on, LoRA and A3MoE alike."""

DEFAULT_TARGETS = r"(.*\.)?(language_model|text_model)\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Every linear layer of the decoder. A bare suffix such as ``q_proj`` would also hit the vision tower."""
