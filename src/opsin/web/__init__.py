"""Who may ask, for every server of Opsin's: the prediction server and the studio."""
