"""What the features of an encoder respond to: invariance, selectivity and importance (Conrad and Narayan 2021)."""
