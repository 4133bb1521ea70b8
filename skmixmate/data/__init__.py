"""Conversion of X in any form to mini-batches on a device."""
