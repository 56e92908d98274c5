"""Attribution fields: which input pixels the network's answer at one pixel rests on, and how large that field is."""

from data_modules.lazy_exports import lazy_exports
from lightning_emseg.core.short_names import SHORT_NAMES

__getattr__, __dir__, __all__ = lazy_exports(__name__, SHORT_NAMES["attribution"])
