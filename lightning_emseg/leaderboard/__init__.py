"""The table of results: what the papers print beside what was measured here."""
