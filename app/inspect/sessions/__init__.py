"""What each visitor has open: images, regions and results, in memory only."""
