"""Object stores: what lies in a bucket, read and written over the network."""
