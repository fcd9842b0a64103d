"""Pretrained networks: opened safely, and run as far as the values that a head learns from."""
