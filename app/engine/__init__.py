"""What all visitors share: the model, what finds regions, private adapters, background work."""
