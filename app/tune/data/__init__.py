"""The data that runs are made with, and the regions of a handful of its rows."""
