"""The history of runs on the terminal, and the report as one HTML page that needs no network."""
