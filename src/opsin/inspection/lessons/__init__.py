"""What one layer does, shown with the real numbers of one image: one file a lesson."""
