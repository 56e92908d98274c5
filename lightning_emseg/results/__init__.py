"""The papers' printed values, collected runs, tables of results, and the page of a report."""
