"""Processes that fit one model together."""
