"""Files and offline batches."""
