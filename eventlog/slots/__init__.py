"""Concurrency slots across processes and machines: strict FIFO, leases that renew themselves, fencing tokens."""
