"""The log lines of environments, kept on disk by group and stream, bounded, and told to those who follow."""
