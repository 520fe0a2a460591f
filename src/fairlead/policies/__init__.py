"""One mechanism, one file; found by name through `registry`."""
