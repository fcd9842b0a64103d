"""What is no test of Opsin's: it runs where Keras and skops are installed."""

collect_ignore = ["keras_networks.py", "sklearn_estimators.py"]
