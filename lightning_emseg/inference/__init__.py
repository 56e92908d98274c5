"""From predicted tiles to whole mosaics, as a stream."""
