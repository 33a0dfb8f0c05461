"""Tuning: the data and the settings of a run, checked before any model is loaded, and the run itself."""
