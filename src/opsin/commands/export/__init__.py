"""A classifier made ready to leave."""
