"""The mathematics, on torch tensors; knows nothing of scikit-learn."""
