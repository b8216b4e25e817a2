"""Makes one page about one model: measures the figures, draws them and writes the page."""
