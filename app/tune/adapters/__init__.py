"""What comes of runs: adapters to download, publish and use."""
