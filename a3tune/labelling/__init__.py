"""Weak labels on disk: for one image, a folder of images or the questions of a data set."""
