"""``python -m lightning_emseg`` is ``lightning``, and cannot be shadowed by another package's script."""

from lightning_emseg.cli import main

if __name__ == "__main__":
    main()
