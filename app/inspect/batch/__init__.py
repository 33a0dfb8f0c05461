"""Several images, one question: asked in the background, shown as a table."""
