"""From predictions and truths to score tables, error maps and their pictures."""
