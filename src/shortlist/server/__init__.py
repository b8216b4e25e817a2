"""The HTTP API: OpenAI's endpoints on a batch engine, one file per concern."""
