"""A run's command line, files and process settings."""
