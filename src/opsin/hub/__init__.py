"""The Hugging Face hub: what is fetched from it, and what is sent to it."""
