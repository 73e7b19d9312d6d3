"""Additive second moments: all that a metric ever sees of the samples."""
