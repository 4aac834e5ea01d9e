"""What a run also needs, and a reader of the scripts may skip: one subject a module."""
