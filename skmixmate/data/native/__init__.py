"""Compiled products with sparse rows."""
