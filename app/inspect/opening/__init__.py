"""Images come on show: examples, own files, a series of the archive, earlier inspections; and how they are shown."""
