"""A subsample, its clusters, and the first atoms."""
