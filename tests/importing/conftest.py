"""What is no test of Opsin's: it runs where Keras is installed."""

collect_ignore = ["keras_networks.py"]
