"""Deep clustering to compare with; not part of the package."""
