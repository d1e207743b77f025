"""Encoders: OpenCLIP models and the built-in starter model, their catalogue and weights."""
