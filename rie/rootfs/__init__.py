"""Images: what their references mean, and what registries say of them."""
