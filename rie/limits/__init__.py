"""What bounds a sandbox: CPU shares, control groups and the size of /tmp."""
