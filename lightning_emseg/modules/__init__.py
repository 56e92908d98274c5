"""LightningModules: the shared training, evaluation and checkpoint logic, then one short file per architecture."""
