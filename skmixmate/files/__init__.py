"""Files of models and checkpoints, written atomically and read with care."""
