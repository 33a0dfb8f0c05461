"""What ranks regions for a text: open_clip models, what they are shown, and how they are asked."""
