"""Object stores: buckets, read and written over the network."""
