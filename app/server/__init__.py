"""The server as a process: its health, its numbers, its log and its end."""
