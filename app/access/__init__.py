"""What stands in front of every request: which routes there are, from where they may be asked, and for whom."""
