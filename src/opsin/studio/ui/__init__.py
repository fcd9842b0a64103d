"""What the studio's pages are made of."""
