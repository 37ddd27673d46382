"""The embedded board: drawn faces of made-up people and the little site that serves them."""
