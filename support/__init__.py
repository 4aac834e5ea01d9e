"""What a run also needs, and a reader of the scripts may skip: images, the run's life, pictures."""
