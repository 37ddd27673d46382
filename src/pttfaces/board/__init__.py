"""The board's room: lists a year of a ptt.cc board and finds every picture that its articles link.

client (pages, politely) → index, listing (rows of a year) → article, hosts, links (picture links).
"""
