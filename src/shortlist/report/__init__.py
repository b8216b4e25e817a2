"""One page about one model: measure the figures, draw them, put them together."""
