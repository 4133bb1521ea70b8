"""The scikit-learn estimator: parameters in, attributes out."""
