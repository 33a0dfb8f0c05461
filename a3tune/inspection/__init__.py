"""One question about one image: asked, looked into, checked, and written to a folder."""
