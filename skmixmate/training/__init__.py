"""EM over mini-batches; knows no scikit-learn."""
