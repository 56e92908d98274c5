"""The transfer benchmarks of CEM500K (Conrad and Narayan 2021): finished runs collected into the paper's tables."""
