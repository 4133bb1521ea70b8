"""X in any form, as batches on a device."""
