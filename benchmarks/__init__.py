"""What is measured, each in a script of its own: ``python -m benchmarks`` lists them."""
