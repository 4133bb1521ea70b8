"""The encoder in C, and its binding."""
