"""Images of any file format, read lazily: shape, data type, voxel size and regions."""

from data_modules.lazy_exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Image": "data_modules.images.image",
        "find_images": "data_modules.images.pages",
        "open_image": "data_modules.images.opening",
    },
)
