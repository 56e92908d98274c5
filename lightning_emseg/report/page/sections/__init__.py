"""Parts of the page: each makes, of the files of runs, what one template shows."""
