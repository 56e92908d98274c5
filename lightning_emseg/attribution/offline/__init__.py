"""Studies over whole mosaics: what is looked at, what was found, and how they are continued."""
