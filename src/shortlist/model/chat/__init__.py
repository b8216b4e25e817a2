"""Chat templates: render messages to text, in a sandbox and within a budget."""
