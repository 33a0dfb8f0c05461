"""Prompts for a box-driven segmenter, found by classical image analysis."""
