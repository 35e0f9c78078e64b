"""Percent-encoding in paths and queries; `urllib.parse` costs 10 ms to import."""

# The characters of methods and header names (RFC 9110).
TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
HEX = b"0123456789abcdefABCDEF"


def unquote(text: str) -> str:
    """Decode %XX once; what is no valid escape stays as it is, bytes that are no UTF-8 become U+FFFD."""
    if "%" not in text:
        return text
    head, *rest = text.encode("latin-1", "replace").split(b"%")
    out = [head]
    for part in rest:
        if len(part) >= 2 and not part[:2].strip(HEX):
            out += [bytes([int(part[:2], 16)]), part[2:]]
        else:
            out.append(b"%" + part)
    return b"".join(out).decode("utf-8", "replace")


def query_value(query: str, name: str) -> str:
    """The first value of a parameter of a query string; empty when it isn't there."""
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if unquote(key) == name:
            return unquote(value.replace("+", " "))
    return ""
