"""What requests and answers look like, by noun. The models of bodies and queries also read them."""
