"""Scoring predictions against truths, wherever both come from: images, folders or stores."""
