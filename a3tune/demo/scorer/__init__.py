"""The demo's region scorer: its data, training, figures and files."""
