"""The faces room: find faces once, cut them out aligned, measure them, choose among them.

Knows pictures, landmarks and tables; not where pictures come from, nor what is trained on them.
"""
