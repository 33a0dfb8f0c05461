"""What finds regions: Segment Anything and LiteMedSAM."""
