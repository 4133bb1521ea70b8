"""Processes that fit one model together, each on its own rows."""
