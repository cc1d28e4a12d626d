"""Sparse products and convolutions: a plain reference, a fast path on CPUs and one on GPUs."""
