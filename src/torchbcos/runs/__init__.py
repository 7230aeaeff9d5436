"""A run's folder: the recipe, the checkpoints, what was held out, the history, the model and the report."""
