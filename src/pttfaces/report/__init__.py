"""One page about the data, the training and the scores: a single HTML file that needs no network.

`gather` reads what the stages left and what git's and DVC's states hold, `charts` draws, `page`
puts both into `page.html.jinja`. Everything that comes from outside is escaped there.
"""
