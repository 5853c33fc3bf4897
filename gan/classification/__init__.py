"""Classifiers with the same kernels: their settings, training, and what a run leaves."""
