"""What all tabs share of the page itself: status line, widgets, identity, theme, initial page."""
