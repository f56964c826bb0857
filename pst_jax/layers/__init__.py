"""Flax modules that the models are made of."""
