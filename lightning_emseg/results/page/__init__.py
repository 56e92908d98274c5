"""One HTML page of runs, without external resources."""
