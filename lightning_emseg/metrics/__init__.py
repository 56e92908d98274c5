"""Scores: stateless functions, and torchmetrics classes that are exact across ranks."""
