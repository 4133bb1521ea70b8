"""Utilities: floating-point numbers, modes of torch, random states and types."""
