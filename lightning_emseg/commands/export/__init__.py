"""``emseg export``: trained networks and predictions for other programs."""
