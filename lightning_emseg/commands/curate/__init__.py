"""``emseg curate``: from files of micrographs to a set of tiles worth learning from."""
