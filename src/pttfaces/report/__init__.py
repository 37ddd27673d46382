"""Shows the history of runs on the terminal, and writes the report as one offline HTML page."""
