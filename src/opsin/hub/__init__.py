"""The Hugging Face hub: downloads and uploads."""
