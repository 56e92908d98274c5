"""``emseg features``: what the features of encoders respond to."""
