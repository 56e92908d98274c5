"""Curation of heterogeneous EM images as for CEM500K (Conrad and Narayan 2021): which tiles are worth learning from."""
