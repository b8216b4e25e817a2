"""PyTorch: train models with mixtures of experts, convert dense ones and heal them. Needs `shortlist[torch]`."""
