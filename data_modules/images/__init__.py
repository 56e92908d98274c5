"""Images of any file format, read lazily: axes, shape, data type, voxel size and regions."""
