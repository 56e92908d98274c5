"""Where and how a prediction errs: error maps, breaks and spurious membranes, worst regions, and files of them."""
