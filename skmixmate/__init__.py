"""Mixture Model Auto-Encoders (MixMate) as a scikit-learn estimator on torch."""

__version__ = "0.1.0"
