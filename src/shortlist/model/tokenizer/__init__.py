"""Tokenizers: text to tokens and back, from GGUF files and folders."""
