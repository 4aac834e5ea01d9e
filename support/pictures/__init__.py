"""The pictures that a run draws."""
