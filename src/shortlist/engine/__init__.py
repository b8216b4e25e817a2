"""From a prompt to text: prefill and decode with a KV cache, sampling, stop strings, statistics."""
