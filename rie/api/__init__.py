"""The control plane: the service's operations, generated from botocore's model, in a Flask application."""
