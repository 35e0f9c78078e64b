"""Archives of code: checked, unpacked, kept by their digests, merged and fetched. Knows no functions and no engine."""
