"""Networks that no library has, as plain modules from an image to logits.

Each has ``stride``: the sides of its input must be multiples of it (1 where any size goes).
"""
