"""The gallery: one page with all runs, which needs no other file."""
