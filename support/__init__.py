"""Supporting code, which a reader of the scripts may skip: datasets, files and flags of a run, pictures."""
