"""One way to multiply matrices a file, each a function ``matmul(a, b)`` in fp32; see ``ladder``."""
