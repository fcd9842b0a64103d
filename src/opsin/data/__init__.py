"""From bytes and labels to arrays and splits."""
