"""Other methods of captum, and the rewritten networks that some of them need."""
