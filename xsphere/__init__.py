"""Extreme-event segmentation on the sphere, straight from xarray."""
