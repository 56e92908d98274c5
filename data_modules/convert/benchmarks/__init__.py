"""Converters of the seven transfer benchmarks of CEM500K, each for the layout in which it was published.

Conrad and Narayan (2021), https://doi.org/10.7554/eLife.65894. Where the text is silent, its authors' own preparation
is followed (github.com/volume-em/cem-dataset, evaluation/setup_benchmarks); each converter says where it departs.
"""

from data_modules.convert.benchmarks.all_mitochondria import convert_all_mitochondria
from data_modules.convert.benchmarks.casser import convert_kasthuri, convert_lucchi
from data_modules.convert.benchmarks.cremi import convert_cremi
from data_modules.convert.benchmarks.organelles import convert_guay, convert_perez, convert_urocell

__all__ = [
    "convert_all_mitochondria",
    "convert_cremi",
    "convert_guay",
    "convert_kasthuri",
    "convert_lucchi",
    "convert_perez",
    "convert_urocell",
]
