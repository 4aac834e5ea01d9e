"""A run's life: its command line, its files, its settings of the process."""
