"""Access control for all servers of Opsin: the prediction server and the studio."""
