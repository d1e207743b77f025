"""Load encoders: OpenCLIP models and the built-in ``starter``, their catalogue and weights."""
