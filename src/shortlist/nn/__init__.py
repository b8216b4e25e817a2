"""PyTorch: gates, mixture-of-experts layers, patching of `transformers` models. Needs `shortlist[torch]`."""
