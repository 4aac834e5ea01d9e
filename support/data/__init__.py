"""Images in memory, wherever they are from."""
