"""Pictures of maps and masks: overlays as arrays, and Matplotlib figures."""
