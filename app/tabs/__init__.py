"""One module a tab: widgets and wiring."""
