"""Images: what their references mean, pulled from wherever they are, unpacked once, and stacked."""
