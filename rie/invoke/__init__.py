"""From a caller's request to an outcome: what is called, whether it may run, and the run itself."""
