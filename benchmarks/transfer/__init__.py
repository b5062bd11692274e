"""Measures how fast a disk goes from one host's files to another's, beside what else could carry it."""
