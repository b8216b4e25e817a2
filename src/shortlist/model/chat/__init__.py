"""Chat templates: messages to text, in a sandbox and on a budget."""
