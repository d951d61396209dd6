"""Kill everything, at any moment: what was acknowledged is there, and in step."""
