"""The browser application: pages, their wiring, and nothing that computes."""
