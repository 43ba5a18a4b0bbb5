"""Time and memory of the losses beside torch's cross-entropy and other libraries: `python -m benchmarks`."""
