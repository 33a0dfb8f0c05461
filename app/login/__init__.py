"""Logging people in: an identity provider, a file of passwords, or a proxy that says who asks."""
