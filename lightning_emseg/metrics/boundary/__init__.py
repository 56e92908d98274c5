"""Metrics of where membranes lie: tolerances, distances, skeletons and breaks."""
