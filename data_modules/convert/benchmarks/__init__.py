"""Converters of the seven transfer benchmarks of CEM500K, each for the layout in which it was published.

Conrad and Narayan (2021), https://doi.org/10.7554/eLife.65894. Where the text is silent, its authors' own preparation
is followed (github.com/volume-em/cem-dataset, evaluation/setup_benchmarks); each converter says where it departs.
"""
