"""Shows the history of runs on the terminal, and the report as one HTML page without network."""
