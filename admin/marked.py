"""Documents of which a part is generated: it stands between two marker lines. It reads and writes no files."""


def with_part(document: str, begin: str, end: str, part: str) -> str:
    """Returns the document with `part` between its marker lines; raises ValueError when it does not have them."""
    before, found, rest = document.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"it has no lines {begin} and {end}")
    return f"{before}{begin}\n\n{part}\n{end}{after}"
