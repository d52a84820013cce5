"""The report: what makes the numbers believable, a module for each of its sections."""
