"""What every room may use: numbers, modes of torch, random states, types."""
