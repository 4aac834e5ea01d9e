"""Datasets: downloaded, read from a folder, or drawn."""
