"""The decoder and its families, tokenizers, chat templates."""
