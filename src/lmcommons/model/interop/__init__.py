"""One module per family: names and shapes to and from `transformers`. Nothing here reads or writes files."""
