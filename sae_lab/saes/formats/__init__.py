"""Layouts of SAE folders: one file for each peer's, all ending in the one canonical record."""
